"""One job for one task instance, also when the listing is late or somebody else is faster."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from airflow_sm_git.clients.jobs import stop_job
from airflow_sm_git.clients.sagemaker import SageMakerClient
from airflow_sm_git.clients.submission import Order, submit
from airflow_sm_git.core import errors
from airflow_sm_git.core.names import TaskKey
from airflow_sm_git.core.training import TrainSpec
from airflow_sm_git.local.pytest_plugin import LocalSageMaker
from tests import steps
from tests.local.sagemaker_requests import BUCKET, IMAGE, ROLE, client, ended, unique, until


class LateListing(SageMakerClient):
    """A client whose listings never show anything yet, as AWS's may be late."""

    def names(self, kind: str, contains: str) -> list[str]:
        return []


@pytest.fixture
def order(local_sagemaker: LocalSageMaker) -> Order:
    spec = TrainSpec(
        package=steps.package(local_sagemaker),
        image_uri=IMAGE,
        role=ROLE,
        region="us-east-1",
        output_path=f"s3://{BUCKET}/tests/output",
    )
    key = TaskKey("default", unique("dag"), "run", "train")
    return Order(spec=spec, key=key, generation=0, prefix=None, tags={"namespace": "default"}, user_tags={})


def go(server: LocalSageMaker, order: Order, kind: type[SageMakerClient] = SageMakerClient) -> tuple[str, bool]:
    def wait(name: str) -> bool:
        return bool(ended(server, name))

    return submit(kind(client(server, "sagemaker")), order, wait=wait, log=lambda *_: None)


def jobs(server: LocalSageMaker, order: Order) -> list[dict[str, Any]]:
    answer = client(server, "sagemaker").list_training_jobs(NameContains=order.key.hash)
    return list(answer["TrainingJobSummaries"])


@pytest.fixture(autouse=True)
def no_job_is_left(local_sagemaker: LocalSageMaker, order: Order) -> Iterator[None]:
    yield
    for job in jobs(local_sagemaker, order):
        ended(local_sagemaker, job["TrainingJobName"])


def test_a_second_try_finds_the_job_though_the_listing_does_not_show_it_yet(
    local_sagemaker: LocalSageMaker, order: Order
) -> None:
    first, attached = go(local_sagemaker, order)
    assert not attached
    assert go(local_sagemaker, order, LateListing) == (first, True)
    assert len(jobs(local_sagemaker, order)) == 1


def test_a_job_that_runs_gets_the_lease_of_the_try_that_waits_for_it(
    local_sagemaker: LocalSageMaker, order: Order, tmp_path: Path
) -> None:
    flag = tmp_path / "flag"
    slow = replace(order, spec=replace(order.spec, hyperparameters={"wait-for": str(flag)}))
    leases = [{**order.tags, "lease-until": f"20{year}-01-01T00:00:00Z"} for year in (27, 28, 29)]
    name, _ = go(local_sagemaker, replace(slow, tags=leases[0]))
    arn = client(local_sagemaker, "sagemaker").describe_training_job(TrainingJobName=name)["TrainingJobArn"]
    assert go(local_sagemaker, replace(slow, tags=leases[1])) == (name, True)
    assert steps.tags_of(local_sagemaker, arn)["lease-until"] == leases[1]["lease-until"]
    flag.touch()
    ended(local_sagemaker, name)
    assert go(local_sagemaker, replace(slow, tags=leases[2])) == (name, True)
    assert steps.tags_of(local_sagemaker, arn)["lease-until"] == leases[1]["lease-until"], "it has ended"


def test_another_request_replaces_a_finished_job_by_a_new_attempt(
    local_sagemaker: LocalSageMaker, order: Order
) -> None:
    first, _ = go(local_sagemaker, order)
    ended(local_sagemaker, first)
    second, attached = go(local_sagemaker, replace(order, spec=replace(order.spec, hyperparameters={"text": "new"})))
    assert (second, attached) == (first.removesuffix("-1") + "-2", False)


def test_a_job_that_somebody_else_stopped_is_not_started_again(local_sagemaker: LocalSageMaker, order: Order) -> None:
    slow = replace(order, spec=replace(order.spec, hyperparameters={"wait-for": "/nowhere"}))
    name, _ = go(local_sagemaker, slow)
    client(local_sagemaker, "sagemaker").stop_training_job(TrainingJobName=name)
    ended(local_sagemaker, name)
    with pytest.raises(errors.TrainingStopped, match="stopped by somebody else"):
        go(local_sagemaker, slow)


def test_a_job_that_we_stopped_is_followed_by_the_next_attempt(local_sagemaker: LocalSageMaker, order: Order) -> None:
    slow = replace(order, spec=replace(order.spec, hyperparameters={"wait-for": "/nowhere"}))
    name, _ = go(local_sagemaker, slow)
    sagemaker = SageMakerClient(client(local_sagemaker, "sagemaker"))
    assert stop_job(sagemaker, name, "timeout")
    ended(local_sagemaker, name)
    second, attached = go(local_sagemaker, slow)
    assert (second, attached) == (name.removesuffix("-1") + "-2", False)
    stop_job(sagemaker, second, "test")


@pytest.mark.parametrize("when", ["before", "after"])
def test_two_workers_at_once_submit_one_job(local_sagemaker: LocalSageMaker, order: Order, when: str) -> None:
    prefix = order.key.dag_id.replace("_", "-")
    answers: dict[str, tuple[str, bool]] = {}
    began = len(local_sagemaker.requests())
    slow = replace(order, spec=replace(order.spec, hyperparameters={"wait-for": "/nowhere"}))

    def work(name: str) -> None:
        answers[name] = go(local_sagemaker, slow)

    stale = local_sagemaker.fault("stale", action="ListTrainingJobs", times=0)
    held = local_sagemaker.fault("hold", action="CreateTrainingJob", resource=prefix, when=when)
    with stale, held:
        first, second = (threading.Thread(target=work, args=(name,)) for name in ("first", "second"))
        first.start()
        until(lambda: held.rule["holding"], lambda holding: holding == 1)
        second.start()
        second.join(30)
        assert steps.actions(local_sagemaker, began).count("ListTrainingJobs") >= 2, "the second has listed"
        held.release()
        first.join(30)
    stop_job(SageMakerClient(client(local_sagemaker, "sagemaker")), answers["first"][0], "test")

    sent = [line for line in local_sagemaker.requests()[began:] if line["action"] == "CreateTrainingJob"]
    assert sorted(line["status"] for line in sent) == [200, 400], "both tried"
    assert {name for name, _ in answers.values()} == {job["TrainingJobName"] for job in jobs(local_sagemaker, order)}
    assert sorted(attached for _, attached in answers.values()) == [False, True], "one of them has made it"
    assert len(jobs(local_sagemaker, order)) == 1


def test_a_job_that_a_cleared_task_waits_for_counts_for_it_when_it_has_ended(
    local_sagemaker: LocalSageMaker, order: Order, tmp_path: Path
) -> None:
    flag = tmp_path / "flag"
    waiting = replace(order, spec=replace(order.spec, hyperparameters={"wait-for": str(flag)}))
    name, _ = go(local_sagemaker, waiting)
    cleared = replace(waiting, generation=1)
    assert go(local_sagemaker, cleared) == (name, True)
    flag.touch()
    ended(local_sagemaker, name)
    assert go(local_sagemaker, cleared) == (name, True), "a try after the one that waited takes it"
    assert go(local_sagemaker, replace(waiting, generation=2))[0] != name, "cleared once more it trains anew"
