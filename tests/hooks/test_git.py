"""A connection of type ``git``: each of its fields, in each way to write it down."""

from __future__ import annotations

import json
from pathlib import Path
from urllib.parse import quote, urlencode

import pytest

from airflow_sm_git.clients.codecommit import CodeCommitLogin
from airflow_sm_git.core.credentials import Credentials
from airflow_sm_git.core.errors import BadParameter, NotSupported
from airflow_sm_git.core.source import Source
from airflow_sm_git.core.ssh import SshAccess
from airflow_sm_git.hooks.git import read_source
from tests.core.test_ssh import KEY

HTTPS, SSH = "https://git.example.com/team/models.git", "git@git.example.com:team/models.git"
CODECOMMIT = "https://git-codecommit.eu-west-1.amazonaws.com/v1/repos/models"


@pytest.fixture
def connect(monkeypatch: pytest.MonkeyPatch):  # type: ignore[no-untyped-def]
    """Make the connection ``code``, and read a source with it."""

    def read(repo: str | None = None, *, form: str = "json", **fields: object) -> Source:
        fields = {"conn_type": "git", **fields}
        monkeypatch.setenv("AIRFLOW_CONN_CODE", json.dumps(fields) if form == "json" else as_uri(fields))
        return read_source(repo, "main", None, "code")

    return read


def as_uri(fields: dict[str, object]) -> str:
    """As Airflow's documentation writes it: all parts percent-encoded."""
    login, password, host = (quote(str(fields.get(name) or ""), safe="") for name in ("login", "password", "host"))
    extra = fields.get("extra")
    query = f"?{urlencode({'__extra__': json.dumps(extra)})}" if extra else ""
    return f"git://{login}:{password}@{host}/{query}"


@pytest.mark.parametrize("form", ["json", "uri"])
@pytest.mark.parametrize(
    ("host", "fields", "login"),
    [
        (HTTPS, {"password": "t/:k@n"}, Credentials(token="t/:k@n")),
        (HTTPS, {"login": "me@x", "password": "secret"}, Credentials("me@x", "secret")),
        (
            HTTPS,
            {"password": "secret", "extra": {"auth_scheme": "bearer"}},
            Credentials(None, None, "secret", "bearer"),
        ),
        (HTTPS, {}, None),
        (SSH, {"extra": {"private_key": KEY}}, SshAccess(private_key=KEY)),
        (
            f"ssh://{SSH.replace(':', '/')}",
            {"login": "me", "extra": {"key_file": "/k", "ssh_port": 22, "private_key_passphrase": "secret"}},
            SshAccess(key_file="/k", port=22, passphrase="secret", user="me"),
        ),
    ],
    ids=["token", "password", "bearer", "nothing", "key", "key-file"],
)
def test_a_connection_gives_the_url_and_the_login_of_its_kind(connect, host, fields, login, form) -> None:  # type: ignore[no-untyped-def]
    source = connect(host=host, form=form, **fields)
    assert (source.url, source.ref, source.credentials) == (host, "main", login)


@pytest.mark.parametrize(
    ("uri", "url"),
    [
        (
            "git://https://me:secret@git.example.com:8443/team/models.git",
            "https://git.example.com:8443/team/models.git",
        ),
        ("git://me:secret@git.example.com/team/models.git", "https://git.example.com/team/models.git"),
        ("git://ssh://me@git.example.com/team/models.git", "ssh://git.example.com/team/models.git"),
    ],
)
def test_a_url_that_airflow_took_apart_is_put_together_again(
    uri: str, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AIRFLOW_CONN_CODE", uri)
    source = read_source(None, None, None, "code")
    assert source.url == url
    assert (
        source.credentials.user if isinstance(source.credentials, SshAccess) else source.credentials.username
    ) == "me"  # type: ignore[union-attr]


@pytest.mark.parametrize(("extra", "port"), [({}, 2222), ({"ssh_port": 22}, 22)])
def test_the_connections_port_is_that_of_ssh_unless_the_extra_names_one(connect, extra, port) -> None:  # type: ignore[no-untyped-def]
    assert connect(host=SSH, port=2222, extra=extra).credentials.port == port


def test_repo_beats_the_connections_host(connect) -> None:  # type: ignore[no-untyped-def]
    source = connect("https://other.example.com/x", host=HTTPS, password="secret")
    assert source.url == "https://other.example.com/x"
    assert source.credentials == Credentials(token="secret")


def test_a_connection_without_a_host_needs_a_repo(connect) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(BadParameter, match=r"git_conn_id='code'.*no host.*or give repo"):
        connect(password="secret")


@pytest.mark.parametrize(
    ("host", "fields", "kind", "note"),
    [
        (SSH, {"password": "secret"}, SshAccess, "password is ignored: SSH uses a key"),
        (
            HTTPS,
            {"password": "secret", "extra": {"private_key": KEY, "ssh_port": 1}},
            Credentials,
            "private_key, ssh_port are ignored",
        ),
        (
            HTTPS,
            {"login": "me", "password": "secret", "extra": {"auth_scheme": "bearer"}},
            Credentials,
            "login is ignored",
        ),
        (HTTPS, {"password": "secret", "extra": {"colour": 1}}, Credentials, "'colour' is not known"),
        (CODECOMMIT, {"password": "secret"}, CodeCommitLogin, "token is ignored: CodeCommit"),
        (SSH, {"extra": {"private_key": KEY}}, SshAccess, "trusted at first sight"),
        (SSH, {"extra": {"strict_host_key_checking": "no"}}, SshAccess, "not checked"),
    ],
)
def test_what_does_not_count_is_said(connect, host, fields, kind, note) -> None:  # type: ignore[no-untyped-def]
    source = connect(host=host, **fields)
    assert isinstance(source.credentials, kind)
    assert note in " ".join(source.notes)
    assert "secret" not in " ".join(source.notes)


@pytest.mark.parametrize("given", [{"known_hosts": "h ssh-rsa AAAA"}, {"strict_host_key_checking": "accept-new"}])
def test_nothing_is_said_of_host_keys_once_the_user_has_decided(connect, given) -> None:  # type: ignore[no-untyped-def]
    assert connect(host=SSH, extra=given).notes == ()


def test_trust_at_first_sight_is_said_without_a_connection_too() -> None:
    assert "trusted at first sight" in " ".join(read_source(SSH, None, None, None).notes)
    assert "trusted at first sight" in " ".join(read_source(None, None, {"repo": SSH}, None).notes)


@pytest.mark.parametrize(
    ("extra", "near"),
    [
        ({"privat_key": KEY}, "private_key"),
        ({"known_host": "x"}, "known_hosts"),
        ({"Private_Key": KEY}, "private_key"),
        ({"authscheme": "bearer"}, "auth_scheme"),
    ],
)
def test_a_misspelt_field_is_told_the_right_name(connect, extra, near) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(BadParameter, match=f"Did you mean '{near}'") as error:
        connect(host=SSH, extra=extra)
    assert KEY.splitlines()[1] not in str(error.value)


def test_fields_of_a_github_app_are_refused_with_a_way_out(connect) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(NotSupported, match=r"GitHub Apps.*access token"):
        connect(host=HTTPS, extra={"github_app_id": "1", "github_installation_id": "2"})


def test_an_unknown_auth_scheme_is_refused(connect) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(BadParameter, match=r"auth_scheme='digest'.*'basic' or 'bearer'"):
        connect(host=HTTPS, password="secret", extra={"auth_scheme": "digest"})


def test_credentials_on_codecommit_win_over_the_aws_connection(connect) -> None:  # type: ignore[no-untyped-def]
    source = connect(host=CODECOMMIT, login="me-at-123", password="secret")
    assert source.credentials == Credentials("me-at-123", "secret")
    assert source.notes == ()


def test_a_short_codecommit_url_gets_the_region_of_the_aws_connection(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(
        "AIRFLOW_CONN_AWS_DEFAULT", json.dumps({"conn_type": "aws", "extra": {"region_name": "eu-west-3"}})
    )
    source = read_source("codecommit://models", None, None, None)
    assert source.url == "codecommit::eu-west-3://models"
    assert isinstance(source.credentials, CodeCommitLogin)
    monkeypatch.setenv("AIRFLOW_CONN_AWS_DEFAULT", json.dumps({"conn_type": "aws"}))
    with pytest.raises(BadParameter, match=r"names no AWS region.*codecommit::REGION://models"):
        read_source("codecommit://models", None, None, None)


def test_a_profile_in_the_url_gives_region_and_credentials(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "config").write_text("[profile team]\nregion = cn-north-1\n")
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "config"))
    assert read_source("codecommit://team@models", None, None, None).url == "codecommit::cn-north-1://team@models"
    with pytest.raises(BadParameter, match=r"no such profile.*team"):
        read_source("codecommit://tame@models", None, None, None)
