"""A pytest fixture with a local SageMaker: ``def test_x(local_sagemaker): local_sagemaker.client("sagemaker")``."""

from __future__ import annotations

import http.client
import json
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import psutil
import pytest

from airflow_sm_git.local import daemon
from airflow_sm_git.local.state import Info, State

SETTLE_SECONDS = 10.0


@dataclass
class LocalSageMaker:
    """A running server.

    :param root: its state directory.
    :param info: its coordinates.
    :param kept: names of the endpoints that may be left in it.
    """

    root: Path
    info: Info
    kept: set[str] = field(default_factory=set)

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
        """Every request so far: time, service, action, resource, status, error; ``fault`` where one acted."""
        log = State(self.root).requests
        return [json.loads(line) for line in log.read_text().splitlines()] if log.exists() else []

    def fault(self, kind: str, **rule: Any) -> Fault:
        """Let something go wrong from now on; see :mod:`airflow_sm_git.local.faults` for kinds and members of a rule.

        Used in a ``with`` statement, the fault ends with the block.
        """
        return Fault(self, self.control("POST", "", {"kind": kind, **rule})["id"])

    def control(self, method: str, path: str, body: object = None) -> Any:
        """One request to the API that makes faults (``airflow_sm_git.local.fault_edge``).

        :raises ValueError: it was refused.
        """
        headers = {"Authorization": f"Bearer {self.info.secret_access_key}"}
        connection = http.client.HTTPConnection("127.0.0.1", self.info.port, timeout=30)
        try:
            connection.request(method, f"/_faults{path}", None if body is None else json.dumps(body), headers)
            answer = connection.getresponse()
            said = answer.read().decode()
        finally:
            connection.close()
        if answer.status >= 400:
            raise ValueError(f"{method} /_faults{path}: {answer.status} {said}")
        return json.loads(said)

    def keep(self, *endpoints: str) -> None:
        """Ask that endpoints may be there when the server stops."""
        self.kept.update(endpoints)

    def left(self) -> list[str]:
        """What would go on costing: jobs that run, and endpoints that no test asked to keep."""
        sagemaker = self.client("sagemaker")
        jobs = [
            job["TrainingJobName"]
            for status in ("InProgress", "Stopping")
            for page in sagemaker.get_paginator("list_training_jobs").paginate(StatusEquals=status)
            for job in page["TrainingJobSummaries"]
        ]
        endpoints = [
            endpoint["EndpointName"]
            for page in sagemaker.get_paginator("list_endpoints").paginate()
            for endpoint in page["Endpoints"]
            if endpoint["EndpointName"] not in self.kept
        ]
        return [*(f"training job {name}" for name in jobs), *(f"endpoint {name}" for name in endpoints)]

    def processes(self) -> list[psutil.Process]:
        """The server's process and all that descend from it."""
        server = psutil.Process(self.info.pid)
        return [server, *server.children(recursive=True)]


@dataclass
class Fault:
    """One rule of a server that makes faults.

    :param id: its id.
    """

    server: LocalSageMaker
    id: str

    def __enter__(self) -> Fault:
        return self

    def __exit__(self, *_: object) -> None:
        self.end()

    @property
    def rule(self) -> dict[str, Any]:
        """How it stands: its members, ``hits`` and ``holding`` among them."""
        [rule] = [rule for rule in self.server.control("GET", "") if rule["id"] == self.id]
        return dict(rule)

    def release(self) -> None:
        """Let go of what it holds."""
        self.server.control("POST", f"/{self.id}/release")

    def end(self) -> None:
        """Take it out of force."""
        self.server.control("DELETE", f"/{self.id}")


@pytest.fixture(scope="session")
def local_sagemaker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalSageMaker]:
    """A local SageMaker for the whole session, inspected before it stops (see `inspected_sagemaker`)."""
    with inspected_sagemaker(tmp_path_factory.mktemp("local-sagemaker") / "state") as server:
        yield server


@contextmanager
def inspected_sagemaker(root: Path) -> Iterator[LocalSageMaker]:
    """A local SageMaker that ends with the block, or with the process where that is killed.

    Afterwards no job may be running in it, no endpoint be there that no test has asked to keep, and none of its
    processes be left: what a test forgets would cost money on AWS.

    :param root: its state directory.
    """
    server = LocalSageMaker(root, daemon.start(root, owner=os.getpid(), faults=True))
    try:
        yield server
        forgotten = _forgotten(server)
    finally:
        before = server.processes()
        daemon.stop(root)
    left = [one for one in before if daemon.alive(one)]
    if left:
        pytest.fail(f"The local SageMaker left processes behind: {left}")
    if forgotten:
        pytest.fail(f"The tests left in the local SageMaker: {', '.join(forgotten)}")


def _forgotten(server: LocalSageMaker) -> list[str]:
    """What is left for good: what is being stopped or deleted gets the time it needs."""
    server.control("DELETE", "")
    deadline = time.monotonic() + SETTLE_SECONDS
    while (left := server.left()) and time.monotonic() < deadline:
        time.sleep(0.1)
    return left
