"""Endpoints and repositories that many tests here need."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from airflow_sm_git.local.pytest_plugin import LocalSageMaker
from tests import steps
from tests.git_server import Repository


@pytest.fixture(scope="session")
def echo(local_sagemaker: LocalSageMaker) -> Iterator[str]:
    """The name of an endpoint that answers with what it was asked."""
    name = steps.create_endpoint(local_sagemaker)
    yield name
    steps.clean_up(local_sagemaker, name)


@pytest.fixture
def repository(tmp_path: Path) -> Repository:
    """A repository with a training and a serving script in ``src``, on the branch ``main``."""
    made = Repository(tmp_path / "repository")
    made.commit(steps.files(), subject="first")
    return made
