"""The local SageMaker: create → Completed of a script that does nothing, and the server's memory when idle.

Peers: ``sagemaker-training`` running the same script without a server, and moto's server.
"""

from __future__ import annotations

import io
import json
import subprocess
import sys
import tarfile
import tempfile
import time
import uuid
from pathlib import Path
from typing import Any

import boto3
import psutil

from airflow_sm_git.local import daemon
from benchmarks.table import Row, median
from tests.peer_environments import peer_python

SCRIPT = "import os\nprint('pid', os.getpid())\n"


def rows(times: int) -> list[Row]:
    """:param times: jobs run for each."""
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder) / "state"
        info = daemon.start(root)
        try:
            idle = psutil.Process(info.pid).memory_info().rss / 1e6
            client, logs = (_client(info, service) for service in ("sagemaker", "logs"))
            package = _put_package(_client(info, "s3"))
            _job(client, package)  # the first one pays for what is loaded once
            took = median(lambda: _job(client, package)[1], times)
            name, _ = _job(client, package)
            print(f"  log of one job: {_log(logs, name)}")
        finally:
            daemon.stop(root)
        toolkit = median(lambda: _toolkit(Path(folder)), max(3, times // 4))
    return [
        Row("local create → Completed, empty script", took, "s", "sagemaker-training, no server", toolkit, limit=0.15),
        Row("idle local server, resident", idle, "MB", "moto's server", _moto(), limit=100),
    ]


def _client(info: Any, service: str) -> Any:
    return boto3.client(
        service,
        endpoint_url=info.url,
        region_name=info.region,
        aws_access_key_id=info.access_key_id,
        aws_secret_access_key=info.secret_access_key,
    )


def _put_package(s3: Any) -> str:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w:gz") as tar:
        member = tarfile.TarInfo("train.py")
        member.size = len(SCRIPT)
        tar.addfile(member, io.BytesIO(SCRIPT.encode()))
    s3.put_object(Bucket="sagemaker-us-east-1-000000000000", Key="bench/sourcedir.tar.gz", Body=out.getvalue())
    return "s3://sagemaker-us-east-1-000000000000/bench/sourcedir.tar.gz"


def _job(client: Any, package: str) -> tuple[str, float]:
    """Create a job and look every 5 ms until it has ended."""
    name = f"bench-{uuid.uuid4().hex[:12]}"
    began = time.perf_counter()
    client.create_training_job(
        TrainingJobName=name,
        AlgorithmSpecification={"TrainingImage": "image", "TrainingInputMode": "File"},
        RoleArn="arn:aws:iam::000000000000:role/sm-git-local",
        HyperParameters={"sagemaker_program": '"train.py"', "sagemaker_submit_directory": f'"{package}"'},
        OutputDataConfig={"S3OutputPath": "s3://sagemaker-us-east-1-000000000000/bench/output"},
        ResourceConfig={"InstanceType": "ml.m5.large", "InstanceCount": 1, "VolumeSizeInGB": 1},
        StoppingCondition={"MaxRuntimeInSeconds": 60},
    )
    while (job := client.describe_training_job(TrainingJobName=name))["TrainingJobStatus"] == "InProgress":
        time.sleep(0.005)
    took = time.perf_counter() - began
    if job["TrainingJobStatus"] != "Completed":
        raise SystemExit(f"The job ended as {job['TrainingJobStatus']}: {job.get('FailureReason')}")
    return name, took


def _log(logs: Any, name: str) -> list[str]:
    group = "/aws/sagemaker/TrainingJobs"
    stream = logs.describe_log_streams(logGroupName=group, logStreamNamePrefix=name)["logStreams"][0]["logStreamName"]
    events = logs.get_log_events(logGroupName=group, logStreamName=stream, startFromHead=True)["events"]
    return [event["message"] for event in events if "pid" in event["message"]]


def _toolkit(folder: Path) -> float:
    """The toolkit's own ``train`` program, as its image's entry point runs it."""
    python = peer_python("sagemaker-training", ["sagemaker-training==5.1.4", "setuptools<81"])
    base = folder / "base"
    for name in ("code", "input/config", "input/data", "model", "output/data"):
        (base / name).mkdir(parents=True, exist_ok=True)
    (base / "code" / "train.py").write_text(SCRIPT)
    parameters = {"sagemaker_program": '"train.py"', "sagemaker_submit_directory": json.dumps(str(base / "code"))}
    hosts = {"current_host": "algo-1", "hosts": ["algo-1"], "network_interface_name": "eth0"}
    for name, content in {"hyperparameters": parameters, "resourceconfig": hosts, "inputdataconfig": {}}.items():
        (base / "input" / "config" / f"{name}.json").write_text(json.dumps(content))
    environment = {
        "PATH": f"{python.parent}:/usr/bin:/bin",
        "HOME": str(folder),
        "SAGEMAKER_BASE_DIR": str(base),
        "SM_STUDIO_LOCAL_MODE": "true",
    }
    began = time.perf_counter()
    subprocess.run([python.parent / "train"], env=environment, check=True, capture_output=True, cwd=base)
    return time.perf_counter() - began


def _moto() -> float:
    code = "from moto.server import ThreadedMotoServer as S; S(port=0).start(); print('up', flush=True); input()"
    server = subprocess.Popen(
        [sys.executable, "-c", code],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    assert server.stdin and server.stdout
    server.stdout.readline()
    resident: float = psutil.Process(server.pid).memory_info().rss / 1e6
    server.kill()
    server.wait()
    return resident
