"""HTTPS: who is trusted, and what is sent to whom."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from airflow_sm_git.clients.git import GitClient
from airflow_sm_git.core.errors import RemoteError
from airflow_sm_git.core.source import Source
from tests.clients.packaging import FILES, in_another_process
from tests.git_server import GitServer, Repository
from tests.https_server import serve_https


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
