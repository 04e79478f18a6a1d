from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from airflow_sm_git.clients.git import GitClient
from tests.git_server import GitServer, Repository, serve


@pytest.fixture
def repository(tmp_path: Path) -> Repository:
    return Repository(tmp_path / "served" / "models.git")


@pytest.fixture
def server(repository: Repository) -> Iterator[GitServer]:
    with serve(repository.path.parent) as running:
        yield running


@pytest.fixture
def client(tmp_path: Path) -> GitClient:
    return GitClient(tmp_path / "cache", allowed_schemes={"file", "http"}, timeout=60)
