"""What git is never given as a URL, and what no text shows."""

from __future__ import annotations

import base64
import re
from collections import Counter
from urllib.parse import quote, quote_plus, unquote

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from airflow_sm_git.core.errors import BadParameter
from airflow_sm_git.core.urls import check_url, is_ssh, redact

SECRET = "s3cr3t"


@pytest.mark.parametrize(
    "url",
    [
        "https://host%40evil.example.com/o/r",
        "https://host\\@evil.example.com/o/r",
        "https://good.example.com\\evil.example.com/o/r",
        "ssh://%2doProxyCommand=x/o/r",
        "ssh://%2dx@host/o/r",
        "ssh://git%3as3cr3t@host/o/r",
        "git:s3cr3t@host:o/r",
        "git@ada:s3cr3t@host:o/r",
        "foo_bar::sh -c x",
        "foo_bar::x",
        "host::x",
        "https:/host/o/r",
        "https://[s3cr3t@::1]/o/r",
        "https://u:s3cr3t/x@host/o/r",
        "https://host:s3cr3t/o/r",
        "EXT::sh",
        "https::https://host/o/r",
        "https://host/o/r\u2028x",
        "https://host/\u202eo/r",
        "https://host/o/%c2%85",
        "https://host/o/r%00",
        "https://host/o/r%7f",
        "https://host/o/r#s3cr3t",
        "https://host/o/r#",
        "https://host/o/r?",
        "ssh://host\t/o/r",
        " https://host/o/r",
    ],
)
def test_disguises_are_refused(url: str) -> None:
    with pytest.raises(BadParameter) as error:
        check_url(url)
    assert SECRET not in str(error.value)


hosts = st.from_regex(r"[a-z][a-z0-9]{0,8}(\.[a-z]{2,5}){0,2}", fullmatch=True) | st.sampled_from(
    ["127.0.0.1", "[::1]"]
)
paths = st.lists(st.from_regex(r"[A-Za-z0-9_.~][A-Za-z0-9_.~-]{0,8}", fullmatch=True), min_size=1, max_size=3)
ports = st.sampled_from(["", "", ":22", ":8443"])
good = st.one_of(
    st.builds(lambda h, p, q: f"https://{h}{p}/{'/'.join(q)}", hosts, ports, paths),
    st.builds(lambda h, p, q: f"ssh://git@{h}{p}/{'/'.join(q)}", hosts, ports, paths),
    st.builds(lambda h, q: f"git@{h}:{'/'.join(q)}", hosts, paths),
)
spoilers = st.sampled_from(
    [
        *(
            "\n",
            "\0",
            " ",
            "%0a",
            "%00",
            "%0D",
            "\x7f",
            "-",
            "--upload-pack=x ",
            "::",
            "ext::",
            "://",
            "@",
            ":",
            "#",
            "?",
        ),
        *("%2d", "%40", "%3a", "\\", "s3cr3t@", "u:s3cr3t@", "\u202e", "\x85", "[", "]"),
    ]
)
spoilt = st.builds(
    lambda url, at, what: url[: (at := at % (len(url) + 1))] + what + url[at:], good, st.integers(0, 80), spoilers
)


def is_harmless(url: str) -> bool:
    """What must be true of anything that git is given, said in another way than the code does."""
    decoded = unquote(url)
    if any(ord(character) <= 32 or 127 <= ord(character) <= 160 for character in decoded) or "\u202e" in decoded:
        return False
    scheme, separator, rest = url.partition("://")
    if not separator or not re.fullmatch("[A-Za-z][A-Za-z0-9+.-]*", scheme):
        match = re.fullmatch(r"(?:([^@:]*)@)?(\[[^\]]*\]|[^:]*):(.*)", url)
        parts = match.groups("") if match else ("", "", "")
        _, host, path = parts
        harmless = bool(host and path) and not path.startswith(":") and "@" not in path.split("/")[0]
        return harmless and host not in ("https", "ssh") and not any(part.startswith("-") for part in parts)
    authority, _, path = rest.partition("/")
    user, at, host = authority.rpartition("@")
    if at and (scheme != "ssh" or ":" in unquote(user)):
        return False
    plain = not re.search(r"[%\\]", host) and not unquote(user).startswith("-") and not host.startswith("-")
    query = scheme == "https" and re.search(r"[?#]", rest)
    return scheme in ("https", "ssh") and bool(host and path.strip("/")) and plain and not query


def test_whatever_is_accepted_is_harmless_and_both_happen_often() -> None:
    seen: Counter[bool] = Counter()

    @settings(max_examples=600, deadline=None, database=None, suppress_health_check=list(HealthCheck))
    @given(st.one_of(good, spoilt, spoilt))
    def check(url: str) -> None:
        try:
            accepted = check_url(url)
        except BadParameter as error:
            seen[False] += 1
            assert SECRET not in str(error), url
            return
        seen[True] += 1
        assert accepted == url
        assert is_harmless(url), url

    check()
    assert min(seen[True], seen[False]) > 0.1 * seen.total(), seen


@given(good)
@settings(max_examples=200, deadline=None, database=None)
def test_every_usual_url_is_accepted(url: str) -> None:
    assert check_url(url) == url
    assert is_ssh(url) == (not url.startswith("https"))


texts = st.text(st.characters(exclude_categories=["Cs", "Cc"]), min_size=8, max_size=24)


@given(st.text(max_size=12), texts, st.text(max_size=12))
@settings(max_examples=200, deadline=None, database=None)
def test_no_form_of_a_secret_is_left(before: str, secret: str, after: str) -> None:
    if not before.isascii() or not after.isascii():
        before, after = "user:", "\n"
    encoded = base64.b64encode((before + secret + after).encode()).decode()
    for form in (secret, quote(secret), quote(secret, safe=""), quote_plus(secret), f"Basic {encoded}"):
        shown = redact(f"fatal: [{form}] refused", [secret])
        assert "***" in shown and form not in shown
        assert shown.startswith("fatal: [") and shown.endswith("] refused")


def test_the_base64_form_of_user_and_secret_is_left_out_whoever_the_user_is() -> None:
    for user in ("", "a", "ab", "abc", "x-access-token"):
        coded = base64.b64encode(f"{user}:s3cr3t-token".encode()).decode()
        assert redact(f"Authorization: Basic {coded} sent", ["s3cr3t-token"]) == "Authorization: Basic *** sent"


def test_what_only_looks_a_little_like_a_short_secret_stays() -> None:
    assert redact("nothing to see: QUFB", ["ab"]) == "nothing to see: QUFB"
