from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from airflow_sm_git.clients.git import GitClient
from airflow_sm_git.local.pytest_plugin import LocalSageMaker
from tests.clients.traces import Scene, play
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


@pytest.fixture(scope="module")
def scene(
    airflow_database: None, local_sagemaker: LocalSageMaker, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Scene]:
    """A run of the chain that has kept its endpoint."""
    with play(local_sagemaker, tmp_path_factory.mktemp("scene")) as scene:
        yield scene


@pytest.fixture
def aws_environment(local_sagemaker: LocalSageMaker, monkeypatch: pytest.MonkeyPatch) -> None:
    """The variables that lead boto3 to the local SageMaker."""
    for name, value in local_sagemaker.env.items():
        if name.startswith("AWS_"):
            monkeypatch.setenv(name, value)
