"""What a killed, and what a stopped, server leaves to the next one: ended jobs, endpoints that answer, no process."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
from botocore.exceptions import ClientError

from airflow_sm_git.local import daemon
from airflow_sm_git.local.pytest_plugin import LocalSageMaker
from tests.local.sagemaker_requests import HANDLER, client, config, ended, settled, training_job, unique, until

STUBBORN = """
import os, pathlib, signal, subprocess, sys, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
child = subprocess.Popen(
    [sys.executable, "-c", "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); time.sleep(300)"],
    start_new_session=True,
)
print(os.getpid(), child.pid, flush=True)
pathlib.Path({path!r}).write_text(f"{{os.getpid()}} {{child.pid}}")
time.sleep(300)
"""


@pytest.fixture
def server(tmp_path: Path) -> Iterator[LocalSageMaker]:
    """A server of this test alone."""
    root = tmp_path / "state"
    yield LocalSageMaker(root, daemon.start(root))
    daemon.stop(root)


def kill(server: LocalSageMaker) -> list[psutil.Process]:
    """Kill the server as an out-of-memory killer does; the processes it had."""
    processes = server.processes()
    os.kill(server.info.pid, signal.SIGKILL)
    processes[0].wait(10)
    return processes


def again(server: LocalSageMaker) -> LocalSageMaker:
    return LocalSageMaker(server.root, daemon.start(server.root))


def gone(processes: list[psutil.Process]) -> None:
    """Wait until none of them runs."""
    until(
        lambda: [p for p in processes if p.is_running() and p.status() != psutil.STATUS_ZOMBIE], lambda left: not left
    )


def start_stubborn(server: LocalSageMaker, path: Path) -> tuple[str, list[psutil.Process]]:
    """A job that ignores SIGTERM and has a grandchild in a session of its own; its name and both processes."""
    request = training_job(server, STUBBORN.format(path=str(path)))
    client(server, "sagemaker").create_training_job(**request)
    until(lambda: path.exists() and path.read_text(), bool)
    return request["TrainingJobName"], [psutil.Process(int(pid)) for pid in path.read_text().split()]


def ask(server: LocalSageMaker, endpoint: str) -> Any:
    answer = client(server, "sagemaker-runtime").invoke_endpoint(EndpointName=endpoint, Body=b"{}")
    return json.loads(answer["Body"].read())["model"]


def test_after_a_kill_the_running_job_has_failed_with_a_reason_and_its_processes_are_gone(
    server: LocalSageMaker, tmp_path: Path
) -> None:
    name, processes = start_stubborn(server, tmp_path / "pids")
    processes += kill(server)
    server = again(server)
    job = client(server, "sagemaker").describe_training_job(TrainingJobName=name)
    assert job["TrainingJobStatus"] == job["SecondaryStatus"] == "Failed"
    assert job["FailureReason"].startswith("InternalServerError: We encountered an internal error.")
    assert job["TrainingEndTime"]
    gone(processes)
    with pytest.raises(ClientError, match="Job name must be unique"):
        client(server, "sagemaker").create_training_job(**training_job(server, "pass", name=name))
    request = training_job(server, "pass")
    client(server, "sagemaker").create_training_job(**request)
    assert ended(server, request["TrainingJobName"])["TrainingJobStatus"] == "Completed"


def test_a_job_killed_while_it_was_being_stopped_is_stopped(server: LocalSageMaker, tmp_path: Path) -> None:
    name, processes = start_stubborn(server, tmp_path / "pids")
    sagemaker = client(server, "sagemaker")
    sagemaker.stop_training_job(TrainingJobName=name)
    assert sagemaker.describe_training_job(TrainingJobName=name)["TrainingJobStatus"] == "Stopping"
    kill(server)
    server = again(server)
    assert client(server, "sagemaker").describe_training_job(TrainingJobName=name)["TrainingJobStatus"] == "Stopped"
    gone(processes)


def test_after_a_kill_endpoints_answer_again_even_those_whose_config_and_model_were_deleted(
    server: LocalSageMaker,
) -> None:
    sagemaker = client(server, "sagemaker")
    name, config_name = unique("endpoint"), config(server, "kept")
    sagemaker.create_endpoint(EndpointName=name, EndpointConfigName=config_name)
    settled(server, name)
    [variant] = sagemaker.describe_endpoint_config(EndpointConfigName=config_name)["ProductionVariants"]
    sagemaker.delete_model(ModelName=variant["ModelName"])
    sagemaker.delete_endpoint_config(EndpointConfigName=config_name)
    old = kill(server)
    server = again(server)
    described = client(server, "sagemaker").describe_endpoint(EndpointName=name)
    assert (described["EndpointStatus"], described["EndpointConfigName"]) == ("InService", config_name)
    assert ask(server, name) == "kept"
    gone(old)


def test_after_a_kill_what_was_under_way_with_an_endpoint_goes_on(server: LocalSageMaker, tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    wait = (
        f"import pathlib, time\n    while not pathlib.Path({str(gate)!r}).exists(): time.sleep(0.01)\n    return open"
    )
    gated = HANDLER.replace("return open", wait, 1)
    sagemaker = client(server, "sagemaker")
    creating, updating = unique("creating"), unique("updating")
    sagemaker.create_endpoint(EndpointName=updating, EndpointConfigName=config(server, "old"))
    settled(server, updating)
    new = config(server, "new", handler=gated)
    sagemaker.create_endpoint(EndpointName=creating, EndpointConfigName=new)
    sagemaker.update_endpoint(EndpointName=updating, EndpointConfigName=new)
    kill(server)
    server = again(server)
    sagemaker = client(server, "sagemaker")
    assert sagemaker.describe_endpoint(EndpointName=creating)["EndpointStatus"] == "Creating"
    assert sagemaker.describe_endpoint(EndpointName=updating)["EndpointStatus"] == "Updating"
    assert ask(server, updating) == "old"
    gate.touch()
    for name in (creating, updating):
        described = settled(server, name)
        assert (described["EndpointStatus"], described["EndpointConfigName"]) == ("InService", new)
        assert ask(server, name) == "new"


def test_a_stopped_server_leaves_no_process_and_its_next_start_takes_up_the_endpoints(
    server: LocalSageMaker, tmp_path: Path
) -> None:
    name, processes = start_stubborn(server, tmp_path / "pids")
    endpoint = unique("endpoint")
    client(server, "sagemaker").create_endpoint(EndpointName=endpoint, EndpointConfigName=config(server, "kept"))
    settled(server, endpoint)
    processes += server.processes()
    daemon.stop(server.root)
    left = [p for p in processes if p.is_running() and p.status() != psutil.STATUS_ZOMBIE]
    assert not left
    server = again(server)
    job = client(server, "sagemaker").describe_training_job(TrainingJobName=name)
    assert (job["TrainingJobStatus"], job["FailureReason"][:20]) == ("Failed", "InternalServerError:")
    assert ask(server, endpoint) == "kept"
