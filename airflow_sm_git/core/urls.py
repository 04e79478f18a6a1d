"""URLs of git remotes: which may be used, what they say, and how they are shown."""

from __future__ import annotations

import base64
import re
from collections.abc import Collection, Iterable
from urllib.parse import SplitResult, unquote, urlsplit

from airflow_sm_git.core import codecommit
from airflow_sm_git.core.errors import BadParameter

DEFAULT_SCHEMES = frozenset({"https", "ssh"})

# Blanks, controls, and what makes a text look like another one (Unicode, "Bidirectional Algorithm", 2).
_CONTROL = re.compile(r"[\x00-\x20\x7f-\xa0\u2028-\u202e\u2066-\u2069]")
_TRANSPORT_HELPER = re.compile(r"[A-Za-z0-9][A-Za-z0-9+.-]*::")
_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*)://")
_SCP_LIKE = re.compile(r"(?:(?P<user>[^@:/]+)@)?(?P<host>[^:/@]+|\[[0-9A-Fa-f:.]+\]):(?P<path>(?!//|:).+)")
_SCP_LOGIN = re.compile(r"[^:/]+:[^@/]*@")
_HOST = re.compile(r"(\[[0-9A-Fa-f:.]+\]|[^][:%\\]*)(:[0-9]*)?")
_NO_HOSTS = {"http", "https", "ssh", "git", "file"}  # of a URL that lacks a slash
_MIN_BASE64 = 6
_USER_IN_URL = re.compile(r"(://)([^/\s'\"]+)@")


def is_ssh(url: str) -> bool:
    """Whether git would reach ``url`` over SSH: ``ssh://…`` or ``[user@]host:path``."""
    if codecommit.is_short(url):
        return False
    match = _SCHEME.match(url)
    return match.group(1).lower() == "ssh" if match else bool(_SCP_LIKE.fullmatch(url))


def is_codecommit(url: str) -> bool:
    """Whether ``url`` is a repository of CodeCommit over HTTPS: what git-remote-codecommit's short ones mean too."""
    return codecommit.is_short(url) or codecommit.region_of(url) is not None


def check_url(url: str, allowed_schemes: Collection[str] = (), *, parameter: str = "repo") -> str:
    """Return ``url``, its scheme in lower case, if git may be run on it.

    :param url: ``https://…``, ``ssh://…``, ``[user@]host:path``, ``codecommit::region://[profile@]repo``, or what
        ``allowed_schemes`` adds.
    :param allowed_schemes: further schemes in lower case, such as ``file`` or ``http``.
    :param parameter: the name to blame in errors.
    :raises BadParameter: another scheme, ``x::`` transports, options in disguise, credentials in the URL.
    """
    shown = _shown(url)
    if not url or url.startswith("-") or _CONTROL.search(unquote(url)):
        problem = "not a URL that git may be given (empty, leading '-', blank or control character)."
        raise BadParameter(parameter, shown, problem, "Write the URL as the git host shows it.")
    if codecommit.is_short(url):
        return codecommit.parse_short(url, parameter).short
    if _TRANSPORT_HELPER.match(url):
        raise BadParameter(parameter, shown, "git transport helpers (x::…) are refused.", "Use https:// or ssh.")
    scheme = _SCHEME.match(url)
    if scheme:
        _check_scheme(url, shown, scheme.group(1).lower(), allowed_schemes, parameter)
        return url[: scheme.end()].lower() + url[scheme.end() :]
    _check_scp_like(url, shown, parameter)
    return url


def _check_scheme(url: str, shown: str, scheme: str, allowed_schemes: Collection[str], parameter: str) -> None:
    if scheme not in DEFAULT_SCHEMES and scheme not in allowed_schemes:
        remedy = f"Use https or ssh, or add {scheme!r} to [sm_git] allowed_schemes."
        raise BadParameter(parameter, shown, f"the scheme {scheme!r} is not allowed.", remedy)
    parts = _split(url)
    if parts is None:
        raise BadParameter(parameter, f"{scheme}://***", "not a URL: its host or port is malformed.")
    host = parts.hostname or ""
    user = unquote(parts.username or "")
    if parts.password is not None or re.search("[:@]", user) or (parts.username is not None and scheme != "ssh"):
        remedy = "Take them out of the URL and put them into a connection (git_conn_id)."
        raise BadParameter(parameter, shown, "credentials in the URL are refused.", remedy)
    if scheme in {"http", "https"} and re.search("[?#]", url):
        raise BadParameter(parameter, shown, "a query or fragment is refused.", "Take it out.")
    if scheme != "file" and (not host or host.startswith("-") or user.startswith("-")):
        raise BadParameter(parameter, shown, "the URL names no usable host.")
    if not parts.path.strip("/"):
        raise BadParameter(parameter, shown, "the URL names no repository, only a host.")


def _split(url: str) -> SplitResult | None:
    """The parts of a URL. What `urllib` says of one that has none would show all of it, a login too."""
    try:
        parts = urlsplit(url)
        _ = parts.port
    except ValueError:
        return None
    return parts if _HOST.fullmatch(parts.netloc.rpartition("@")[2]) else None


def _check_scp_like(url: str, shown: str, parameter: str) -> None:
    if _SCP_LOGIN.match(url):
        remedy = "Take them out of the URL: SSH uses a key."
        raise BadParameter(parameter, shown, "credentials in the URL are refused.", remedy)
    match = _SCP_LIKE.fullmatch(url)
    if match is None or match.group("host").lower() in _NO_HOSTS:
        remedy = (
            "Write https://host/path or git@host:path; for a local one, file:///path with [sm_git] allowed_schemes."
        )
        raise BadParameter(parameter, shown, "not a remote URL.", remedy)
    if any((part or "").startswith("-") for part in match.group("user", "host", "path")):
        raise BadParameter(parameter, shown, "a part of the URL starts with '-'.")


def _shown(url: str) -> str:
    """A URL that may be refused, without anything that could be a login, however it got there."""
    shown = re.sub(r"[?#].*", "", url, flags=re.DOTALL)
    return re.sub(r"^([^:/]*://)?(?!git@[^@]*$).*@", r"\1***@", shown, flags=re.DOTALL)


def redact(text: str, secrets: Iterable[str]) -> str:
    """Return ``text`` without ``secrets`` and without logins in URLs.

    A secret goes in plain and percent-encoded form, and so does the base64 form of anything it is a part of, such as
    ``user:secret``.
    """
    for secret in sorted(filter(None, secrets), key=len, reverse=True):
        text = re.sub("|".join((_percent_encoded(secret), *_base64_with(secret))), "***", text)
    return _USER_IN_URL.sub(lambda match: match.group(0) if match.group(2) == "git" else f"{match.group(1)}***@", text)


def _percent_encoded(secret: str) -> str:
    """A pattern for ``secret``, each of its characters as it is or percent-encoded (RFC 3986, 2.1)."""
    characters = ((re.escape(one), "".join(f"%{byte:02X}" for byte in one.encode())) for one in secret)
    return "".join(rf"(?:{plain}|(?i:{coded}){'|[+]' if coded == '%20' else ''})" for plain, coded in characters)


def _base64_with(secret: str) -> list[str]:
    """Patterns for the base64 form (RFC 4648) of a text with ``secret`` in it, which depends on where it lies.

    Base64 takes three bytes at a time, so there are three of them; the digits that neighbours have a part in are left
    out, and patterns of fewer than six digits too, as they would be found in anything.
    """
    patterns = []
    for before in range(3):
        data = b"\0" * before + secret.encode()
        whole = base64.b64encode(data + b"\0" * (-len(data) % 3)).decode()
        core = whole[-(-before * 8 // 6) : len(data) * 8 // 6]
        if len(core) >= _MIN_BASE64:
            patterns.append(f"[A-Za-z0-9+/]{{0,400}}{re.escape(core)}[A-Za-z0-9+/]{{0,400}}=*")
    return patterns


def web_url(url: str, commit: str) -> str | None:
    """The page of ``commit`` at the host of ``url`` (GitHub, GitLab, Bitbucket, CodeCommit), or None."""
    where = _host_and_path(codecommit.reached_at(url))
    if where is None:
        return None
    host, path = where
    region = codecommit.region_of(f"https://{host}")
    if region:
        return codecommit.page(region, path.rpartition("/")[2], commit)
    if host == "bitbucket.org":
        return f"https://{host}/{path}/commits/{commit}"
    if host == "github.com" or host.startswith("github."):
        return f"https://{host}/{path}/commit/{commit}"
    if host == "gitlab.com" or host.startswith("gitlab."):
        return f"https://{host}/{path}/-/commit/{commit}"
    return None


def same_host(url: str, other: str) -> bool:
    """Whether two remotes are reached in the same way at the same place: scheme, host and port."""
    return _place(url) == _place(other)


def _place(url: str) -> tuple[str, str, int | None]:
    if not _SCHEME.match(url):
        match = _SCP_LIKE.fullmatch(url)
        return "ssh", match.group("host").lower() if match else url, None
    parts = urlsplit(url)
    usual = {"https": 443, "http": 80, "ssh": 22}.get(parts.scheme)
    return parts.scheme, (parts.hostname or "").lower(), None if parts.port == usual else parts.port


def _host_and_path(url: str) -> tuple[str, str] | None:
    if _SCHEME.match(url):
        parts = urlsplit(url)
        if parts.scheme not in {"https", "http", "ssh"} or not parts.hostname:
            return None
        host, path = parts.hostname, parts.path
    else:
        match = _SCP_LIKE.fullmatch(url)
        if match is None:
            return None
        host, path = match.group("host").lower(), match.group("path")
    path = path.strip("/").removesuffix(".git")
    return (host, path) if path else None
