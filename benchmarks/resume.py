"""From the end of a training job to the start of the next task, under ``airflow standalone``: TrainOperator, deferred,
beside the Amazon provider's SageMakerTrainingOperator in an Airflow of its own; one run after the other.

What is Airflow's own part shows a task that waits for a moment with Airflow's own trigger: the scheduler resumes it, a
process for it starts, and then one for the next task.
"""

from __future__ import annotations

import json
import statistics
import tempfile
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any
from urllib.parse import quote

from airflow_sm_git.local import daemon
from airflow_sm_git.local.pytest_plugin import LocalSageMaker
from benchmarks.table import Row
from tests.live_airflow import LiveAirflow, live_airflow
from tests.local.sagemaker_requests import IMAGE, ROLE, training_job

INTERVAL = 5.0
LINES = 80
LIMIT = INTERVAL + 1
DAG = f"""
import json, os
from datetime import UTC, datetime, timedelta
from airflow.providers.standard.triggers.temporal import DateTimeTrigger
from airflow.sdk import DAG, BaseOperator
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

class Until(BaseOperator):
    def execute(self, context):
        moment = datetime.now(UTC) + timedelta(seconds={LINES / 10})
        context["ti"].xcom_push(key="moment", value=moment.isoformat())
        self.defer(trigger=DateTimeTrigger(moment=moment), method_name="resume")

    def resume(self, context, event):
        pass

with DAG("airflows", schedule=None):
    Until(task_id="train") >> BashOperator(task_id="after", bash_command="true")
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
    lines = f"for number in range({LINES}):\n    print('number', number, flush=True)\n    time.sleep(0.1)"
    request = training_job(server, f"import time\n{lines}")
    file = folder / "benchmark_dag.py"
    file.write_text(DAG)
    environment = {**server.env, "BENCHMARK_REQUEST": json.dumps(request)}
    with live_airflow(folder / "airflow", environment, [file]) as airflow:
        airflow.wait_for_dags("ours", "theirs", "airflows")
        bare = statistics.median(_bare(airflow) for _ in range(times))
        ours = [_end(airflow, server, "ours") for _ in range(times)]
        theirs = [_end(airflow, server, "theirs") for _ in range(times)]
    peer = "Amazon provider, waiting in a worker"
    gaps, their_gaps = [each.gap for each in ours], [each.gap for each in theirs]
    describes, their_describes = [each.describes for each in ours], [each.describes for each in theirs]
    label = f"job's end to the next task, {INTERVAL:g} s poll"
    return [
        Row(f"{label}, median of {times}", statistics.median(gaps), "s", peer, statistics.median(their_gaps)),
        Row("  the longest", max(gaps), "s", peer, max(their_gaps)),
        Row("  Airflow's own part, median", bare, "s"),
        Row("  the longest less that", max(gaps) - bare, "s", limit=LIMIT),
        Row("  Describes of the job from its end on, the most", max(describes), "", peer, max(their_describes)),
        Row("  lines of its log missing in the task's, the most", max(each.missing for each in ours), "", limit=0),
    ]


@dataclass(frozen=True)
class End:
    """How a job's end was taken.

    :param gap: seconds from the end of a run's job to the start of its next task.
    :param describes: of the job, from its end on.
    :param missing: lines of the job that the log of the task does not have exactly once.
    """

    gap: float
    describes: int
    missing: int


def _bare(airflow: LiveAirflow) -> float:
    """Seconds from the moment that Airflow's own trigger waits for to the start of the next task."""
    run = airflow.trigger("airflows")
    airflow.ended("airflows", run)
    moment = datetime.fromisoformat(airflow.xcom("airflows", run, "train", "moment"))
    after = airflow.call("GET", f"dags/airflows/dagRuns/{quote(run)}/taskInstances/after")
    return (datetime.fromisoformat(after["start_date"]) - moment).total_seconds()


def _end(airflow: LiveAirflow, server: LocalSageMaker, dag_id: str) -> End:
    known = {job["TrainingJobName"] for job in _jobs(server)}
    run = airflow.trigger(dag_id)
    state = airflow.ended(dag_id, run)
    if state != "success":
        raise RuntimeError(f"{dag_id} {run}: {airflow.states(dag_id, run)}")
    [job] = [job for job in _jobs(server) if job["TrainingJobName"] not in known]
    tasks = f"dags/{dag_id}/dagRuns/{quote(run)}/taskInstances"
    after = airflow.call("GET", f"{tasks}/after")
    log = airflow.call("GET", f"{tasks}/train/logs/1?full_content=true")["content"]
    texts = [str(line.get("event", "")) for line in log]
    describes = [
        request
        for request in server.requests()
        if request["action"] == "DescribeTrainingJob"
        and request["resource"] == job["TrainingJobName"]
        and request["time"] >= job["TrainingEndTime"].timestamp()
    ]
    return End(
        (datetime.fromisoformat(after["start_date"]) - job["TrainingEndTime"]).total_seconds(),
        len(describes),
        sum(texts.count(f"[algo-1] number {number}") != 1 for number in range(LINES)),
    )


def _jobs(server: LocalSageMaker) -> list[dict[str, Any]]:
    return list(server.client("sagemaker").list_training_jobs(MaxResults=100)["TrainingJobSummaries"])
