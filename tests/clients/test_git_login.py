"""Credentials: what reaches the remote, and what never reaches anything else."""

from __future__ import annotations

import base64
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from airflow_sm_git.clients.git import GitClient
from airflow_sm_git.core.credentials import Credentials
from airflow_sm_git.core.errors import AuthenticationFailed
from airflow_sm_git.core.source import Source
from tests.clients.packaging import FILES, in_another_process, package
from tests.git_server import GitServer, Repository, serve

USER, SECRET = "me@example.com", "canary-$(id)-'\"%s\\n-ö"


@pytest.fixture
def private(repository: Repository) -> Iterator[GitServer]:
    with serve(repository.path.parent, login=(USER, SECRET)) as running:
        yield running


def forms(secret: str) -> list[bytes]:
    return [secret.encode(), base64.b64encode(secret.encode()), base64.b64encode(f"{USER}:{secret}".encode())]


def everything_said(error: BaseException | None) -> str:
    said = ""
    while error is not None:
        said += f"{error!r} {error} {vars(error)}"
        error = error.__cause__ or error.__context__
    return said


def test_user_and_password_open_a_private_repository_and_lie_nowhere(
    repository: Repository, private: GitServer, tmp_path: Path
) -> None:
    commit = repository.commit(FILES)
    client = GitClient(tmp_path / "cache", allowed_schemes={"http"}, credentials=Credentials(USER, SECRET), timeout=60)
    assert client.resolve(Source(private.url("models.git"))).commit == commit
    package(client, private.url("models.git"), commit)
    for path in (tmp_path / "cache").rglob("*"):
        assert not path.is_file() or not any(form in path.read_bytes() for form in forms(SECRET)), path


def test_a_token_is_sent_with_the_user_name_that_the_host_expects(repository: Repository, tmp_path: Path) -> None:
    commit = repository.commit(FILES)
    with serve(repository.path.parent, login=("x-access-token", SECRET)) as server:
        client = GitClient(tmp_path / "cache", allowed_schemes={"http"}, credentials=Credentials(token=SECRET))
        assert client.resolve(Source(server.url("models.git"))).commit == commit


@pytest.mark.parametrize("credentials", [None, Credentials(USER, "wrong"), Credentials(token=SECRET + "x")])
def test_missing_and_wrong_credentials_fail_at_once_and_are_not_shown(
    repository: Repository, private: GitServer, tmp_path: Path, credentials: Credentials | None
) -> None:
    repository.commit(FILES)
    client = GitClient(tmp_path / "cache", allowed_schemes={"http"}, credentials=credentials, timeout=60)
    with pytest.raises(AuthenticationFailed, match="git_conn_id") as error:
        client.resolve(Source(private.url("models.git")))
    assert not error.value.retryable
    for secret in credentials.secrets() if credentials else ():
        assert secret not in everything_said(error.value)


def test_an_open_repository_is_sent_no_credentials(repository: Repository, server: GitServer, tmp_path: Path) -> None:
    repository.commit(FILES)
    client = GitClient(tmp_path / "cache", allowed_schemes={"http"}, credentials=Credentials(USER, SECRET))
    client.resolve(Source(server.url("models.git")))
    assert {request.authorization for request in server.requests} == {None}


def test_without_credentials_the_machines_own_helper_answers(
    repository: Repository, private: GitServer, tmp_path: Path
) -> None:
    commit = repository.commit(FILES)
    home = tmp_path / "it's home"
    home.mkdir()
    (home / ".gitconfig").write_text("[credential]\n\thelper = store\n")
    quoted = SECRET.encode().hex("%", 1)
    (home / ".git-credentials").write_text(f"http://me%40example.com:%{quoted}@127.0.0.1%3a{private.port}\n")
    out, said = in_another_process(tmp_path / "c", private.url("models.git"), commit, HOME=str(home))
    assert len(out) == 64, said


def test_netrc_does_not_act(repository: Repository, private: GitServer, tmp_path: Path) -> None:
    commit = repository.commit(FILES)
    private.login = ("me", "secret")
    home = tmp_path / "home"
    home.mkdir()
    (home / ".netrc").write_text("machine 127.0.0.1 login me password secret\n")
    os.chmod(home / ".netrc", 0o600)
    _, said = in_another_process(tmp_path / "c", private.url("models.git"), commit, HOME=str(home))
    assert said.startswith("AuthenticationFailed")
