"""The pin under a live scheduler, on the newest Airflow and on the oldest: whatever a user clears after the branch has
moved runs the commit that the run began with."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest

from airflow_sm_git.local.pytest_plugin import LocalSageMaker
from tests import steps
from tests.git_server import Repository
from tests.live_airflow import LiveAirflow, live_airflow

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

DAGS = ("pinned", "repinned", "waiting", "retried")
EVERYTHING = {"checkout", "package", "train", "deploy", "predict", "teardown", "report"}


def files(version: str) -> dict[str, bytes]:
    """A commit whose model says which version's script has trained it."""
    return steps.files(**{"src/train.py": steps.TRAIN.replace('"--text", "w"', f'"--text", "{version}"')})


@dataclass
class Stage:
    """An Airflow whose runs, one of each DAG, were started on one commit; then the branch moved to another.

    :param gate: a file that the job of ``waiting`` waits for.
    """

    airflow: LiveAirflow
    sagemaker: LocalSageMaker
    gate: Path
    runs: dict[str, str]
    first: str
    tip: str

    def ended(self, dag_id: str) -> tuple[str, dict[str, str | None]]:
        """Wait for a run's end; its state and its tasks'."""
        return self.airflow.ended(dag_id, self.runs[dag_id]), self.airflow.states(dag_id, self.runs[dag_id])

    def clear(self, dag_id: str, *steps: str) -> set[str]:
        """Clear steps of a run, or all of it, as the user interface does."""
        return self.airflow.clear(dag_id, self.runs[dag_id], *(f"chain.{step}" for step in steps))

    def xcom(self, dag_id: str, step: str) -> Any:
        """What a step returned."""
        return self.airflow.xcom(dag_id, self.runs[dag_id], f"chain.{step}")

    def deferred(self, dag_id: str, step: str, *, after: int) -> int:
        """Wait until a try of a step after a given one waits in the triggerer; its number."""
        path = f"dags/{dag_id}/dagRuns/{quote(self.runs[dag_id])}/taskInstances/chain.{step}"
        found: dict[str, Any] = {}

        def waits() -> bool:
            found.update(self.airflow.call("GET", path))
            return found["state"] == "deferred" and found["try_number"] > after

        self.airflow.eventually(waits, f"{dag_id}'s {step} is deferred", lambda: str(found))
        return int(found["try_number"])

    def commits(self, dag_id: str) -> set[str]:
        """The commits that the run's records speak of, and the tags of what was made."""
        records = [self.xcom(dag_id, step) for step in ("checkout", "package", "train", "deploy")]
        tags = steps.tags_of(self.sagemaker, self.xcom(dag_id, "train")["job_arn"])
        return {each["commit"] for each in [*records, tags]}

    def endpoint_tags(self, dag_id: str) -> dict[str, str]:
        """The tags of the run's endpoint, from the server."""
        return steps.tags_of(self.sagemaker, self.xcom(dag_id, "deploy")["endpoint_arn"])

    def jobs(self, dag_id: str) -> list[str]:
        """The names of the run's training jobs, oldest first; there was never more than one at a time."""
        key = self.xcom(dag_id, "train")["job_name"].rpartition("-")[0]
        jobs = steps.jobs_of(self.sagemaker, key)
        for one, next_one in pairwise(jobs):
            assert one["TrainingEndTime"] <= next_one["CreationTime"], "two jobs of one task at the same time"
        assert jobs[-1]["TrainingJobStatus"] == "Completed"
        return [job["TrainingJobName"] for job in jobs]

    def set(self, variable: str, value: str) -> None:
        """Give a Variable of Airflow another value."""
        self.airflow.call("PATCH", f"variables/{variable}", {"key": variable, "value": value})

    def left(self, dag_id: str) -> list[str]:
        """What of the run is left on the server."""
        return steps.left_of(self.sagemaker, dag_id)


@pytest.fixture(scope="module", params=["newest", "3.0.6"])
def stage(
    request: pytest.FixtureRequest, local_sagemaker: LocalSageMaker, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Stage]:
    """One Airflow of a version for all cases; the runs go on at the same time."""
    folder = tmp_path_factory.mktemp("live-pin")
    repository, gate = Repository(folder / "repository"), folder / "gate"
    first = repository.commit(files("first"))
    environment = {
        **local_sagemaker.env,
        "AIRFLOW__SM_GIT__ALLOWED_SCHEMES": "file",
        "AIRFLOW__SM_GIT__CACHE_DIR": str(folder / "cache"),
        "SM_GIT_TEST_GATE": str(gate),
        "SM_GIT_TEST_REPO": repository.url,
    }
    dags = [Path(__file__).with_name("pinned.py")]
    with live_airflow(folder / "airflow", environment, dags, request.param) as airflow:
        assert (airflow.call("GET", "version")["version"] == "3.0.6") == (request.param == "3.0.6")
        airflow.wait_for_dags(*DAGS)
        for variable, value in {"question": "please raise", "repin": "false"}.items():
            airflow.call("POST", "variables", {"key": variable, "value": value})
        stage = Stage(airflow, local_sagemaker, gate, {dag_id: airflow.trigger(dag_id) for dag_id in DAGS}, first, "")
        airflow.eventually(
            lambda: {airflow.states(dag_id, run)["package"] for dag_id, run in stage.runs.items()} == {"success"},
            "every run has its package",
        )
        stage.tip = repository.commit(files("tip"))
        yield stage


def test_the_provider_is_known_to_airflow(stage: Stage) -> None:
    found = stage.airflow.call("GET", "providers?limit=100")["providers"]
    assert "airflow-sm-git" in {each["package_name"] for each in found}


def test_clearing_train_while_its_job_runs_keeps_the_commit_and_never_makes_a_second_live_job(stage: Stage) -> None:
    dag_id = "waiting"
    before = stage.deferred(dag_id, "train", after=0)
    assert stage.clear(dag_id, "train") >= {"train", "deploy", "predict"}
    stage.deferred(dag_id, "train", after=before)
    stage.gate.touch()
    state, tasks = stage.ended(dag_id)
    assert state == "success", tasks
    assert stage.commits(dag_id) == {stage.first}
    assert stage.xcom(dag_id, "train")["job_name"] == stage.jobs(dag_id)[-1]
    assert stage.xcom(dag_id, "predict")["body"]["model"] == "first"
    assert stage.left(dag_id) == []


def test_clearing_train_keeps_the_commit(stage: Stage) -> None:
    state, tasks = stage.ended("pinned")
    assert (state, tasks["predict"]) == ("failed", "failed"), tasks
    jobs = stage.jobs("pinned")
    assert stage.clear("pinned", "train") >= {"train", "deploy", "predict"}
    state, tasks = stage.ended("pinned")
    assert (state, tasks["deploy"], tasks["predict"], tasks["teardown"]) == ("failed", "success", "failed", "skipped")
    assert stage.commits("pinned") == {stage.first}
    assert stage.endpoint_tags("pinned")["commit"] == stage.first
    assert stage.jobs("pinned")[:-1] == jobs


def test_clearing_the_whole_run_keeps_the_commit(stage: Stage) -> None:
    stage.ended("pinned")
    jobs = stage.jobs("pinned")
    assert stage.clear("pinned") == EVERYTHING
    state, tasks = stage.ended("pinned")
    assert (state, tasks["deploy"], tasks["predict"], tasks["teardown"]) == ("failed", "success", "failed", "skipped")
    assert stage.commits("pinned") == {stage.first}
    assert stage.endpoint_tags("pinned")["commit"] == stage.first
    assert stage.jobs("pinned")[:-1] == jobs


def test_clearing_deploy_keeps_the_commit(stage: Stage) -> None:
    stage.ended("pinned")
    jobs = stage.jobs("pinned")
    assert stage.clear("pinned", "deploy") >= {"deploy", "predict", "teardown", "report"}
    state, tasks = stage.ended("pinned")
    assert (state, tasks["deploy"], tasks["predict"], tasks["teardown"]) == ("failed", "success", "failed", "skipped")
    assert stage.commits("pinned") == {stage.first}
    assert stage.endpoint_tags("pinned")["commit"] == stage.first
    assert stage.jobs("pinned") == jobs


def test_clearing_predict_keeps_the_commit_and_ends_green_with_nothing_left(stage: Stage) -> None:
    stage.ended("pinned")
    jobs = stage.jobs("pinned")
    stage.set("question", "hi")
    assert stage.clear("pinned", "predict") >= {"predict", "teardown", "report"}
    state, tasks = stage.ended("pinned")
    assert state == "success", tasks
    assert stage.commits("pinned") == {stage.first}
    assert stage.xcom("pinned", "predict")["body"]["model"] == "first"
    assert stage.jobs("pinned") == jobs
    assert stage.left("pinned") == []


def test_with_repin_clearing_the_whole_run_takes_the_tip(stage: Stage) -> None:
    state, tasks = stage.ended("repinned")
    assert state == "success", tasks
    assert (stage.commits("repinned"), stage.xcom("repinned", "predict")["body"]["model"]) == ({stage.first}, "first")
    stage.set("repin", "true")
    assert stage.clear("repinned") == EVERYTHING
    state, tasks = stage.ended("repinned")
    assert state == "success", tasks
    assert (stage.commits("repinned"), stage.xcom("repinned", "predict")["body"]["model"]) == ({stage.tip}, "tip")
    assert stage.left("repinned") == []


def test_a_job_that_failed_while_its_task_was_deferred_is_tried_again_by_another(stage: Stage) -> None:
    state, tasks = stage.ended("retried")
    assert state == "success", tasks
    assert [name.rpartition("-")[2] for name in stage.jobs("retried")] == ["1", "2"]
    assert stage.left("retried") == []
