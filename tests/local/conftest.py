"""Two implementations of S3, STS, IAM and Logs behind one fixture, so that one set of cases holds ours to moto's."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import boto3
import pytest
from moto.server import ThreadedMotoServer

from airflow_sm_git.local.pytest_plugin import LocalSageMaker

ClientFactory = Callable[..., Any]


@pytest.fixture(scope="session")
def moto_client() -> Iterator[ClientFactory]:
    """Clients of a moto server."""
    server = ThreadedMotoServer("127.0.0.1", 0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()

    session = boto3.session.Session()

    def client(service: str, **options: Any) -> Any:
        defaults = {
            "endpoint_url": f"http://{host}:{port}",
            "region_name": "us-east-1",
            "aws_access_key_id": "testing",
            "aws_secret_access_key": "testing",
        }
        return session.client(service, **{**defaults, **options})

    yield client
    server.stop()


@pytest.fixture(params=["ours", "moto"])
def client(request: pytest.FixtureRequest) -> ClientFactory:
    """Clients of either implementation."""
    if request.param == "moto":
        factory: ClientFactory = request.getfixturevalue("moto_client")
        return factory
    server: LocalSageMaker = request.getfixturevalue("local_sagemaker")
    return server.client


@pytest.fixture
def ours(local_sagemaker: LocalSageMaker) -> ClientFactory:
    """Clients of our server alone."""
    return local_sagemaker.client
