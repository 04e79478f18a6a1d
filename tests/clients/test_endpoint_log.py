"""An error about an endpoint quotes the containers that it is about, and is there though their log is not."""

from __future__ import annotations

import time
from typing import Any

import pytest
from botocore.config import Config

from airflow_sm_git.clients.endpoint_log import log_end
from airflow_sm_git.local.pytest_plugin import LocalSageMaker
from tests.local.sagemaker_requests import unique


@pytest.fixture(scope="module")
def logs(local_sagemaker: LocalSageMaker) -> Any:
    return local_sagemaker.client("logs", config=Config(retries={"total_max_attempts": 1}))


@pytest.fixture
def endpoint(logs: Any) -> str:
    """The name of an endpoint of which the old container of variant A wrote last, and B is between old and new A."""
    name = unique("logged")
    group = f"/aws/sagemaker/Endpoints/{name}"
    logs.create_log_group(logGroupName=group)
    written = {"A/i-old": "the old", "B/i-new": "the other", "A/i-new": "the new"}
    for stream in written:
        logs.create_log_stream(logGroupName=group, logStreamName=stream)
        time.sleep(0.002)  # the times of creation are whole milliseconds
    now = int(time.time() * 1000)
    for later, (stream, line) in enumerate(reversed(written.items())):
        event = {"timestamp": now + later, "message": line}
        logs.put_log_events(logGroupName=group, logStreamName=stream, logEvents=[event])
    return name


@pytest.mark.parametrize(
    ("reason", "line"),
    [
        ("", "the new"),
        ("The primary container for production variant A did not pass the ping health check.", "the new"),
        ("The primary container for production variant B did not pass the ping health check.", "the other"),
        ("The primary container for production variant AB did not pass the ping health check.", "the new"),
    ],
)
def test_the_newest_container_is_quoted_of_the_variant_that_is_named(
    logs: Any, endpoint: str, reason: str, line: str
) -> None:
    group = f"/aws/sagemaker/Endpoints/{endpoint}"
    assert log_end(logs, endpoint, reason) == f"\nIts log group is {group}.\nThe last lines of its log:\n  {line}"


def test_a_secret_that_a_container_wrote_is_not_quoted(logs: Any, endpoint: str) -> None:
    assert log_end(logs, endpoint, secrets=["new"]).endswith("\n  the ***")


def test_without_a_log_it_is_said_where_one_would_be(logs: Any) -> None:
    assert log_end(logs, "nobody") == "\nIts log group is /aws/sagemaker/Endpoints/nobody."


def test_a_log_that_cannot_be_read_is_no_error_of_its_own(
    local_sagemaker: LocalSageMaker, logs: Any, endpoint: str
) -> None:
    with local_sagemaker.fault("denied", service="logs", times=0):
        said = log_end(logs, endpoint)
    assert f"/aws/sagemaker/Endpoints/{endpoint}.\nIt cannot be read: GetLogEvents" in said
    assert "AccessDenied" in said
