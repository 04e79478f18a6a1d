"""A pytest fixture with a local SageMaker: ``def test_x(local_sagemaker): local_sagemaker.client("sagemaker")``."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import psutil
import pytest

from airflow_sm_git.local import daemon
from airflow_sm_git.local.state import Info, State


@dataclass
class LocalSageMaker:
    """A running server.

    :param root: its state directory.
    :param info: its coordinates.
    """

    root: Path
    info: Info

    @property
    def url(self) -> str:
        """Its endpoint URL."""
        return self.info.url

    @property
    def env(self) -> dict[str, str]:
        """The environment variables that lead to it."""
        return daemon.env(self.root)

    def client(self, service: str, **options: Any) -> Any:
        """A boto3 client of this server.

        :param options: further arguments of ``boto3.client``; they win.
        """
        defaults = {
            "endpoint_url": self.info.url,
            "region_name": self.info.region,
            "aws_access_key_id": self.info.access_key_id,
            "aws_secret_access_key": self.info.secret_access_key,
        }
        return self._session.client(service, **{**defaults, **options})

    @cached_property
    def _session(self) -> Any:
        import boto3

        return boto3.session.Session()

    def requests(self) -> list[dict[str, Any]]:
        """Every request so far: time, service, action, resource, status, error."""
        log = State(self.root).requests
        return [json.loads(line) for line in log.read_text().splitlines()] if log.exists() else []

    def processes(self) -> list[psutil.Process]:
        """The server's process and all that descend from it."""
        server = psutil.Process(self.info.pid)
        return [server, *server.children(recursive=True)]


@pytest.fixture(scope="session")
def local_sagemaker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalSageMaker]:
    """A local SageMaker for the whole session; afterwards it is stopped, and none of its processes may be left.

    It ends itself where pytest is killed.
    """
    root = tmp_path_factory.mktemp("local-sagemaker") / "state"
    server = LocalSageMaker(root, daemon.start(root, owner=os.getpid()))
    yield server
    before = server.processes()
    daemon.stop(root)
    left = [one for one in before if daemon.alive(one)]
    if left:
        pytest.fail(f"The local SageMaker left processes behind: {left}")
