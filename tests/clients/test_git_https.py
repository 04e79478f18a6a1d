"""HTTPS: who is trusted, and what is sent to whom."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from airflow_sm_git.clients.git import GitClient
from airflow_sm_git.core.credentials import Credentials
from airflow_sm_git.core.errors import AuthenticationFailed, RemoteError
from airflow_sm_git.core.source import Source
from tests.clients.packaging import FILES, in_another_process, package
from tests.clients.test_git_login import everything_said
from tests.git_server import GitServer, Repository
from tests.https_server import serve_https

SECRET = "canary-$(id)-'\"%s\\n-/+@"


@pytest.fixture
def untrusted(repository: Repository, tmp_path: Path) -> Iterator[tuple[GitServer, Path]]:
    repository.commit(FILES)
    with serve_https(repository.path.parent, tmp_path) as both:
        yield both


@pytest.fixture
def https(untrusted: tuple[GitServer, Path], monkeypatch: pytest.MonkeyPatch) -> GitServer:
    server, authority = untrusted
    monkeypatch.setenv("GIT_SSL_CAINFO", str(authority))
    return server


def test_a_certificate_that_nobody_vouches_for_is_refused_with_the_remedy(
    untrusted: tuple[GitServer, Path], tmp_path: Path
) -> None:
    server, _ = untrusted
    with pytest.raises(RemoteError, match=r"certificate") as error:
        GitClient(tmp_path / "cache").resolve(Source(server.url("models.git")))
    assert "http.sslCAInfo" in error.value.remedy and "GIT_SSL_CAINFO" in error.value.remedy
    assert server.requests == []


def test_a_certificate_that_the_environment_vouches_for_is_taken(
    https: GitServer, repository: Repository, tmp_path: Path
) -> None:
    commit = GitClient(tmp_path / "cache").resolve(Source(https.url("models.git")))
    assert commit.commit == repository.sha("main")


def test_a_certificate_that_the_machines_git_configuration_vouches_for_is_taken(
    untrusted: tuple[GitServer, Path], repository: Repository, tmp_path: Path
) -> None:
    server, authority = untrusted
    home = tmp_path / "home"
    home.mkdir()
    (home / ".gitconfig").write_text(f'[http "{server.url("")}"]\n\tsslCAInfo = {authority}\n')
    url, commit = server.url("models.git"), repository.sha("main")
    out, said = in_another_process(tmp_path / "cache", url, commit, HOME=str(home))
    assert len(out) == 64, said


BEARER = Credentials(token=SECRET, scheme="bearer")


def test_a_bearer_token_is_sent_as_such_and_lies_nowhere(
    https: GitServer, repository: Repository, tmp_path: Path
) -> None:
    https.bearer = SECRET
    client = GitClient(tmp_path / "cache", credentials=BEARER)
    commit = client.resolve(Source(https.url("models.git")))
    package(client, https.url("models.git"), commit.commit)
    assert https.authorizations == {f"Bearer {SECRET}"}
    for path in (tmp_path / "cache").rglob("*"):
        assert not path.is_file() or SECRET.encode() not in path.read_bytes(), path


@pytest.mark.parametrize(
    ("token", "scheme", "advice"),
    [(SECRET, "basic", "auth_scheme to 'bearer'"), (f"{SECRET}x", "bearer", "auth_scheme to 'basic'")],
)
def test_a_refused_token_is_said_with_the_other_way_to_send_it(
    https: GitServer, tmp_path: Path, token: str, scheme: Any, advice: str
) -> None:
    https.bearer = SECRET
    client = GitClient(tmp_path / "cache", credentials=Credentials(token=token, scheme=scheme))
    with pytest.raises(AuthenticationFailed) as error:
        client.resolve(Source(https.url("models.git")))
    assert advice in error.value.remedy and "git_conn_id" in error.value.remedy
    assert SECRET not in everything_said(error.value)


@pytest.mark.parametrize("asked", [True, False])
@pytest.mark.parametrize("credentials", [BEARER, Credentials("ada", SECRET), Credentials(token=SECRET)])
def test_a_redirect_to_another_port_never_gets_the_credentials(
    https: GitServer,
    repository: Repository,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    credentials: Credentials,
    asked: bool,
) -> None:
    bearer = credentials.scheme == "bearer"
    if asked:  # by the first server, before it redirects
        https.bearer = SECRET if bearer else None
        https.login = None if bearer else credentials.login("")
    other = tmp_path / "other"
    other.mkdir()
    with serve_https(repository.path.parent, other, login=credentials.login("")) as (thief, authority):
        both = tmp_path / "both authorities.pem"
        both.write_text((tmp_path / "certificate.pem").read_text() + authority.read_text())
        monkeypatch.setenv("GIT_SSL_CAINFO", str(both))
        https.redirect = thief.url("").rstrip("/")
        with pytest.raises(RemoteError) as error:
            GitClient(tmp_path / "cache", credentials=credentials).resolve(Source(https.url("models.git")))
    assert len(https.authorizations) == 1 + (asked and not bearer)
    assert thief.authorizations == (set() if bearer else {None})
    assert ("redirects" in error.value.remedy) == bearer
    assert SECRET not in everything_said(error.value)
