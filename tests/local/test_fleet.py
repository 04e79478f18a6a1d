"""What becomes of an endpoint whose containers hang instead of loading."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from airflow_sm_git.local.context import Context
from airflow_sm_git.local.endpoint_configs import create_endpoint_config
from airflow_sm_git.local.endpoints import Endpoints, deployment
from airflow_sm_git.local.fleet import Fleets
from airflow_sm_git.local.hosting import STARTUP_TIMEOUT
from airflow_sm_git.local.logs import LogStore
from airflow_sm_git.local.models import create_model
from airflow_sm_git.local.state import Info, State
from airflow_sm_git.local.store import Store
from tests.local.jobs import Lab, archive, eventually, gone, lab_in
from tests.local.sagemaker_requests import IMAGE, ROLE, variant

HANG = "import os, time; print('hangs', os.getpid()); time.sleep(600)"

GROUP = "/aws/sagemaker/Endpoints/e"


@pytest.fixture
def lab(tmp_path: Path) -> Iterator[Lab]:
    with lab_in(tmp_path) as made:
        yield made


@pytest.fixture
def context(lab: Lab) -> Iterator[Context]:
    state = State(lab.root / "state").create()
    logs, store = LogStore(state.log_database), Store(state.database)
    yield Context(state, store, lab.objects, logs, Info(1, os.getpid(), 0.0, "http://127.0.0.1:1", "key", "secret"))
    store.close()
    logs.close()


def configured(lab: Lab, context: Context, *handlers: str, name: str = "config", **settings: Any) -> str:
    """A configuration with a variant for each of the handlers. The API's lower bound of 60 s does not hold here."""
    variants = []
    for number, source in enumerate(handlers):
        model = f"{name}-m{number}"
        data = lab.put(f"{model}.tar.gz", archive({"code/inference.py": source}))
        container = {"Image": IMAGE, "ModelDataUrl": data}
        create_model(context, {"ModelName": model, "PrimaryContainer": container, "ExecutionRoleArn": ROLE})
        variants.append(variant(model, VariantName=f"v{number}", **settings))
    create_endpoint_config(context, {"EndpointConfigName": name, "ProductionVariants": variants})
    return name


def test_containers_that_hang_fail_the_endpoint_in_their_time_and_are_gone(lab: Lab, context: Context) -> None:
    sources = (HANG, f"def model_fn(model_dir):\n    {HANG}")
    name = configured(lab, context, *sources, ContainerStartupHealthCheckTimeoutInSeconds=3)
    endpoints = Endpoints(context, Fleets())
    begun = time.monotonic()
    endpoints.create({"EndpointName": "e", "EndpointConfigName": name})
    eventually(lambda: endpoints.describe({"EndpointName": "e"})["EndpointStatus"] != "Creating", "it is settled")
    assert time.monotonic() - begun > 3
    described = endpoints.describe({"EndpointName": "e"})
    assert described["EndpointStatus"] == "Failed"
    assert described["FailureReason"] == (
        "The primary container for production variant v0 did not pass the ping health check. "
        "Please check CloudWatch logs for this endpoint."
    )
    streams = [stream.id for stream in context.logs.streams(GROUP)]
    lines = [event.message for event in context.logs.read(streams, limit=100)]
    hung = [int(line.split()[1]) for line in lines if line.startswith("hangs ")]
    assert (len(streams), len(hung)) == (2, 2)
    assert gone(*hung)
    assert not list(context.state.endpoints.iterdir())


def test_an_update_to_a_container_that_hangs_is_rolled_back_in_its_time(lab: Lab, context: Context) -> None:
    fleets = Fleets()
    endpoints = Endpoints(context, fleets)
    good = configured(lab, context, "def model_fn(model_dir): ...", name="good")
    bad = configured(lab, context, HANG, name="bad", ContainerStartupHealthCheckTimeoutInSeconds=2)
    endpoints.create({"EndpointName": "e", "EndpointConfigName": good})
    eventually(lambda: endpoints.describe({"EndpointName": "e"})["EndpointStatus"] == "InService", "it serves")
    endpoints.update({"EndpointName": "e", "EndpointConfigName": bad})
    assert endpoints.describe({"EndpointName": "e"})["EndpointStatus"] == "Updating"
    eventually(lambda: endpoints.describe({"EndpointName": "e"})["EndpointStatus"] != "Updating", "it is settled")
    described = endpoints.describe({"EndpointName": "e"})
    assert (described["EndpointStatus"], described["EndpointConfigName"]) == ("InService", good)
    assert "did not pass the ping health check" in described["FailureReason"]
    with fleets.serving("e", {"v0": 1.0}, None, 1.0) as member:
        assert member is not None
        assert member.process.alive
    endpoints.close()


def test_the_time_to_start_is_the_variants_or_aws_default(lab: Lab, context: Context) -> None:
    request = {"EndpointConfigName": configured(lab, context, "")}
    assert deployment(context, request)["Variants"][0]["StartupTimeout"] == STARTUP_TIMEOUT == 8 * 60
