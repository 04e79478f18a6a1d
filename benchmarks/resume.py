"""From the end of a training job to the start of the next task, under ``airflow standalone``: TrainOperator, deferred,
beside the Amazon provider's SageMakerTrainingOperator in an Airflow of its own; one run after the other.

What both have in common is Airflow's own part: the scheduler resumes a task, a process for it starts, and then one for
the next task.
"""

from __future__ import annotations

import json
import statistics
import tempfile
from datetime import datetime
from pathlib import Path
from urllib.parse import quote

from airflow_sm_git.local import daemon
from airflow_sm_git.local.pytest_plugin import LocalSageMaker
from benchmarks.table import Row
from tests.live_airflow import LiveAirflow, live_airflow
from tests.local.sagemaker_requests import IMAGE, ROLE, training_job

INTERVAL = 5.0
DAG = f"""
import json, os
from airflow.sdk import DAG
from airflow.providers.standard.operators.bash import BashOperator

REQUEST = json.loads(os.environ["BENCHMARK_REQUEST"])
with DAG("ours", schedule=None):
    from airflow_sm_git import TrainOperator
    TrainOperator(task_id="train", package=None, image_uri={IMAGE!r}, role={ROLE!r}, deferrable=True,
        check_interval={INTERVAL}, hyperparameters=REQUEST["HyperParameters"], encoding="plain",
        output_path=REQUEST["OutputDataConfig"]["S3OutputPath"]) >> BashOperator(task_id="after", bash_command="true")
with DAG("theirs", schedule=None):
    from airflow.providers.amazon.aws.operators.sagemaker import SageMakerTrainingOperator
    SageMakerTrainingOperator(task_id="train", config=REQUEST, deferrable=False, print_log=False,
        check_interval={INTERVAL}) >> BashOperator(task_id="after", bash_command="true")
"""


def rows(times: int = 5) -> list[Row]:
    """:param times: runs of each."""
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder) / "state"
        server = LocalSageMaker(root, daemon.start(root))
        try:
            return _measure(server, Path(folder), times)
        finally:
            daemon.stop(root)


def _measure(server: LocalSageMaker, folder: Path, times: int) -> list[Row]:

    request = training_job(
        server, "import time\nfor number in range(80):\n    print(number, flush=True)\n    time.sleep(0.1)"
    )
    file = folder / "benchmark_dag.py"
    file.write_text(DAG)
    environment = {**server.env, "BENCHMARK_REQUEST": json.dumps(request)}
    with live_airflow(folder / "airflow", environment, [file]) as airflow:
        airflow.wait_for_dags("ours", "theirs")
        ours = sorted(_gap(airflow, server, "ours") for _ in range(times))
        theirs = sorted(_gap(airflow, server, "theirs") for _ in range(times))
    peer = "Amazon provider, waiting in a worker"
    return [
        Row(f"job's end to the next task, {INTERVAL:g} s poll, median of {times}", *_pair(ours, theirs, peer)),
        Row("  the longest", ours[-1], "s", peer, theirs[-1]),
    ]


def _pair(ours: list[float], theirs: list[float], peer: str) -> tuple[float, str, str, float]:
    return statistics.median(ours), "s", peer, statistics.median(theirs)


def _gap(airflow: LiveAirflow, server: LocalSageMaker, dag_id: str) -> float:
    """Seconds from the end of a run's job to the start of its next task."""
    known = {job["TrainingJobName"] for job in _jobs(server)}
    run = airflow.trigger(dag_id)
    state = airflow.ended(dag_id, run)
    if state != "success":
        raise RuntimeError(f"{dag_id} {run}: {airflow.states(dag_id, run)}")
    [job] = [job for job in _jobs(server) if job["TrainingJobName"] not in known]
    after = airflow.call("GET", f"dags/{dag_id}/dagRuns/{quote(run)}/taskInstances/after")
    return (datetime.fromisoformat(after["start_date"]) - job["TrainingEndTime"]).total_seconds()


def _jobs(server: LocalSageMaker) -> list[dict[str, object]]:
    return list(server.client("sagemaker").list_training_jobs(MaxResults=100)["TrainingJobSummaries"])
