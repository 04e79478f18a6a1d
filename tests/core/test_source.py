from __future__ import annotations

import base64

import pytest

from airflow_sm_git.core.credentials import Credentials
from airflow_sm_git.core.errors import BadParameter, NotSupported
from airflow_sm_git.core.source import check_path, check_ref, is_full_sha, is_short_sha, parse_source
from airflow_sm_git.core.urls import check_url, redact, web_url

HTTPS = "https://github.com/org/repo.git"
SSH = "git@github.com:org/repo.git"
CODECOMMIT = "https://git-codecommit.eu-west-1.amazonaws.com/v1/repos/models"


def test_repo_and_ref_are_taken_as_they_are() -> None:
    source = parse_source(HTTPS, "main")
    assert (source.url, source.ref, source.commit, source.credentials) == (HTTPS, "main", None, None)


def test_an_empty_ref_is_the_remotes_head() -> None:
    assert parse_source(HTTPS, "").ref is None


@pytest.mark.parametrize(("repo", "ref"), [(HTTPS, None), (None, "main")])
def test_git_config_excludes_repo_and_ref(repo: str | None, ref: str | None) -> None:
    with pytest.raises(BadParameter, match="together with git_config"):
        parse_source(repo, ref, {"repo": HTTPS})


def test_no_repository_at_all_is_an_error() -> None:
    with pytest.raises(BadParameter, match="repo=None"):
        parse_source(None)
    with pytest.raises(BadParameter, match="needs a repository"):
        parse_source(None, None, {"branch": "main"})


def test_an_unknown_git_config_key_names_the_nearest_known() -> None:
    with pytest.raises(BadParameter, match=r"'brnach': unknown key\. Did you mean 'branch'") as error:
        parse_source(None, None, {"repo": HTTPS, "brnach": "main"})
    assert error.value.parameter == "git_config"


def test_git_config_keeps_branch_and_commit_both() -> None:
    source = parse_source(None, None, {"repo": HTTPS, "branch": "main", "commit": "abcdef1"})
    assert (source.ref, source.commit) == ("main", "abcdef1")


@pytest.mark.parametrize(
    ("given", "login", "notes"),
    [
        ({"repo": HTTPS}, None, 0),
        ({"repo": HTTPS, "token": "t0k"}, ("x-access-token", "t0k"), 0),
        ({"repo": "https://gitlab.com/o/r", "token": "t0k"}, ("oauth2", "t0k"), 0),
        ({"repo": "https://bitbucket.org/o/r", "token": "t0k"}, ("x-token-auth", "t0k"), 0),
        ({"repo": HTTPS, "token": "t0k", "username": "u", "password": "p"}, ("x-access-token", "t0k"), 1),
        ({"repo": HTTPS, "username": "u", "password": "p"}, ("u", "p"), 0),
        ({"repo": HTTPS, "username": "u"}, None, 1),
        ({"repo": HTTPS, "password": "p"}, None, 1),
        ({"repo": HTTPS, "2FA_enabled": True, "token": "t0k"}, ("x-access-token", "t0k"), 0),
        ({"repo": HTTPS, "2FA_enabled": "True", "username": "u", "password": "p"}, None, 1),
        ({"repo": HTTPS, "2FA_enabled": "False", "username": "u", "password": "p"}, ("u", "p"), 0),
        ({"repo": SSH, "token": "t0k"}, None, 1),
        ({"repo": "ssh://git@host/o/r", "username": "u", "password": "p"}, None, 1),
        ({"repo": CODECOMMIT, "username": "u", "password": "p"}, ("u", "p"), 0),
        ({"repo": CODECOMMIT, "token": "t0k"}, None, 1),
        ({"repo": CODECOMMIT, "2FA_enabled": True, "username": "u", "password": "p"}, ("u", "p"), 1),
    ],
)
def test_git_config_credentials_count_as_in_the_sdk(
    given: dict[str, object], login: tuple[str, str] | None, notes: int
) -> None:
    source = parse_source(None, None, given)
    assert (source.credentials.login(source.url) if source.credentials else None) == login
    assert len(source.notes) == notes


def test_a_secret_of_the_wrong_type_is_not_shown() -> None:
    with pytest.raises(BadParameter) as error:
        parse_source(None, None, {"repo": HTTPS, "token": 1234567})
    assert "1234567" not in str(error.value)


def test_secrets_are_not_in_the_repr() -> None:
    credentials = Credentials("user", "passw0rd", "t0ken")
    assert "user" in repr(credentials)
    assert "passw0rd" not in repr(credentials) and "t0ken" not in repr(credentials)
    assert credentials.secrets() == ("passw0rd", "t0ken")


@pytest.mark.parametrize("url", [HTTPS, SSH, CODECOMMIT, "ssh://git@host:2222/o/r.git", "host:o/r", "git@[::1]:o/r"])
def test_https_and_ssh_urls_are_accepted(url: str) -> None:
    assert check_url(url) == url


@pytest.mark.parametrize(
    ("url", "problem"),
    [
        ("", "not a URL"),
        ("-oProxyCommand=x", "not a URL"),
        ("--upload-pack=x", "not a URL"),
        ("https://host/a b", "not a URL"),
        ("https://host/a\nb", "not a URL"),
        ("https://host/a%0ab", "not a URL"),
        ("ext::sh -c x", "not a URL"),
        ("ext::sh", "transport helpers"),
        ("fd::17", "transport helpers"),
        ("http://host/o/r", "'http' is not allowed"),
        ("file:///o/r", "'file' is not allowed"),
        ("git://host/o/r", "'git' is not allowed"),
        ("/o/r", "not a remote URL"),
        ("./o:r/x", "not a remote URL"),
        ("repo", "not a remote URL"),
        ("https://user:secret@host/o/r", "credentials in the URL"),
        ("https://secret@host/o/r", "credentials in the URL"),
        ("ssh://git:secret@host/o/r", "credentials in the URL"),
        ("https://host/o/r?private_token=secret", "query or fragment"),
        ("https:///o/r", "no usable host"),
        ("ssh://-oProxyCommand=x/o/r", "no usable host"),
        ("ssh://-x@host/o/r", "no usable host"),
        ("https://host/", "no repository"),
        ("https://[::1/o", "not a URL"),
        ("-x@host:o/r", "not a URL"),
        ("git@-x:o/r", "starts with '-'"),
        ("git@host:-x", "starts with '-'"),
    ],
)
def test_what_git_must_never_be_given_is_refused(url: str, problem: str) -> None:
    with pytest.raises(BadParameter) as error:
        check_url(url)
    assert problem in str(error.value)
    assert "secret" not in str(error.value)
    assert error.value.parameter == "repo"


def test_the_scheme_is_given_to_git_in_lower_case() -> None:
    assert check_url("HTTPS://Host/O/r") == "https://Host/O/r"


def test_allowed_schemes_add_to_the_default_ones() -> None:
    assert check_url("file:///o/r", {"file"}) == "file:///o/r"
    assert check_url(HTTPS, {"file"}) == HTTPS
    with pytest.raises(BadParameter, match="credentials"):
        check_url("http://user@host/o/r", {"http"})


def test_a_transport_helper_stays_refused_when_its_name_is_an_allowed_scheme() -> None:
    with pytest.raises(BadParameter, match="transport helpers"):
        check_url("ext::sh", {"ext"})


@pytest.mark.parametrize(
    "ref", ["main", "feature/x.y", "v1.0", "refs/pull/12/head", "a" * 40, "abcd", "HEAD", "ümlaut"]
)
def test_names_that_git_allows_are_accepted(ref: str) -> None:
    assert check_ref(ref) == ref


@pytest.mark.parametrize(
    "ref",
    [
        *("", "-x", "a b", "a..b", "a~1", "a^", "a:b", "a?", "a*", "a[", "a\\b", "/a", "a/", "a//b", ".a", "a/.b"),
        *("a.lock", "a.lock/b", "a.", "@", "a@{1}", "a\n", "a\x7f"),
    ],
)
def test_names_that_git_forbids_are_refused(ref: str) -> None:
    with pytest.raises(BadParameter, match="ref="):
        check_ref(ref)


def test_sha_256_names_are_refused_by_name() -> None:
    with pytest.raises(NotSupported, match="SHA-256"):
        check_ref("a" * 64)


def test_shas_are_told_from_names() -> None:
    assert is_full_sha("0" * 40) and not is_full_sha("0" * 39) and not is_full_sha("g" * 40)
    assert is_short_sha("abcd") and not is_short_sha("abc") and not is_short_sha("0" * 40) and not is_short_sha("main")


@pytest.mark.parametrize(
    ("path", "normal"), [("src", "src"), ("src/", "src"), ("./src//a", "src/a"), (".", "."), ("a/./b", "a/b")]
)
def test_paths_are_normalised(path: str, normal: str) -> None:
    assert check_path("source_dir", path) == normal


@pytest.mark.parametrize(
    "path",
    ["", "/etc", "../x", "a/../..", "a/..", "~/x", "C:/x", "a\\b", "a\nb", ".git", "a/.GIT/config", "a/.Git"],
)
def test_paths_out_of_the_repository_are_refused_with_the_parameters_name(path: str) -> None:
    with pytest.raises(BadParameter) as error:
        check_path("source_dir", path)
    assert (error.value.parameter, error.value.value) == ("source_dir", path)
    assert error.value.remedy


def test_redaction_finds_each_form_of_a_secret() -> None:
    secret = "p@ss/wörd"
    forms = [secret, "p%40ss%2Fw%C3%B6rd", base64.b64encode(secret.encode()).decode()]
    for form in forms:
        assert redact(f"<{form}>", [secret]) == "<***>"


def test_redaction_takes_logins_out_of_urls_even_with_an_at_sign_in_the_name() -> None:
    assert redact("fatal: https://me@example.com:pw@host/o/r failed", ()) == "fatal: https://***@host/o/r failed"
    assert redact("ssh://git@host/o/r", ()) == "ssh://git@host/o/r"


@pytest.mark.parametrize(
    ("url", "page"),
    [
        (HTTPS, "https://github.com/org/repo/commit/abc"),
        (SSH, "https://github.com/org/repo/commit/abc"),
        ("ssh://git@github.com:22/org/repo", "https://github.com/org/repo/commit/abc"),
        ("https://gitlab.com/g/s/r.git", "https://gitlab.com/g/s/r/-/commit/abc"),
        ("https://gitlab.example.com/g/r", "https://gitlab.example.com/g/r/-/commit/abc"),
        ("git@bitbucket.org:o/r.git", "https://bitbucket.org/o/r/commits/abc"),
        (
            CODECOMMIT,
            "https://eu-west-1.console.aws.amazon.com/codesuite/codecommit/repositories/models/commit/abc"
            "?region=eu-west-1",
        ),
        ("https://example.com/o/r", None),
        ("file:///o/r", None),
    ],
)
def test_known_hosts_have_a_page_for_a_commit(url: str, page: str | None) -> None:
    assert web_url(url, "abc") == page
