"""The fixture's server ends with pytest, however pytest ends."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from airflow_sm_git.local import daemon
from tests.local.jobs import eventually

CASE = """
import json, pathlib, sys, time
from dataclasses import asdict
from airflow_sm_git.local.pytest_plugin import local_sagemaker
def test_that_is_killed(local_sagemaker):
    from tests.local.sagemaker_requests import training_job
    request = training_job(local_sagemaker, "import time; time.sleep(600)")
    local_sagemaker.client("sagemaker").create_training_job(**request)
    while len(local_sagemaker.processes()) < 3:
        time.sleep(0.01)
    part = pathlib.Path(PLACE).with_suffix(".part")
    part.write_text(json.dumps([one.pid for one in local_sagemaker.processes()]))
    part.replace(PLACE)
    time.sleep(600)
"""


def test_a_killed_pytest_leaves_no_server_and_no_job(tmp_path: Path) -> None:
    place = tmp_path / "pids"
    case = tmp_path / "test_case.py"
    case.write_text(f"PLACE = {str(place)!r}\n{CASE}")
    checkout = Path(__file__).parents[2]
    base = ["--rootdir", str(tmp_path), "--basetemp", str(tmp_path / "base")]
    options = ["-q", "-p", "no:cacheprovider", "-c", "/dev/null", *base]
    run = subprocess.Popen([sys.executable, "-m", "pytest", *options, str(case)], cwd=checkout)
    try:
        eventually(lambda: place.exists() or run.poll() is not None, "the job runs", 60)
        family = [psutil.Process(pid) for pid in json.loads(place.read_text())]
    finally:
        run.kill()
        run.wait()
    try:
        eventually(lambda: not any(daemon.alive(one) for one in family), "server and job end", 60)
    finally:
        for one in filter(daemon.alive, family):
            one.kill()


def test_a_server_for_a_process_that_is_gone_does_not_start(tmp_path: Path) -> None:
    done = subprocess.Popen([sys.executable, "-c", ""])
    done.wait()
    with pytest.raises(daemon.StartFailed, match=f"The process {done.pid}, for which this server is to be, is gone"):
        daemon.start(tmp_path / "state", owner=done.pid)


LEAK = """
from airflow_sm_git.local.pytest_plugin import local_sagemaker
from tests import steps
def test_that_forgets(local_sagemaker):
    {}
"""


@pytest.mark.parametrize(
    ("body", "says"),
    [
        ("steps.submit(local_sagemaker, wait_for='/nowhere')", "The tests left in the local SageMaker: training job "),
        ("steps.create_endpoint(local_sagemaker)", "The tests left in the local SageMaker: endpoint echo-"),
        ("local_sagemaker.keep(steps.create_endpoint(local_sagemaker))", ""),
        ("steps.clean_up(local_sagemaker, steps.create_endpoint(local_sagemaker))", ""),
        ("steps.submit(local_sagemaker)", ""),
    ],
    ids=["job", "endpoint", "kept", "deleted", "ended"],
)
def test_a_run_that_leaves_what_costs_fails(tmp_path: Path, body: str, says: str) -> None:
    case = tmp_path / "test_case.py"
    case.write_text(LEAK.format(body))
    base = ["--rootdir", str(tmp_path), "--basetemp", str(tmp_path / "base")]
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-c", "/dev/null", *base, str(case)]
    done = subprocess.run(command, cwd=Path(__file__).parents[2], capture_output=True, text=True, check=False)
    assert "1 passed" in done.stdout, done.stdout
    assert done.returncode == (1 if says else 0), done.stdout
    assert says in done.stdout
