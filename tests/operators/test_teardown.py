"""Teardown: what the run made is gone, or kept and said so."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from airflow.sdk import task

from airflow_sm_git import SweepOperator, TeardownOperator
from airflow_sm_git.clients.deploying import Deployment
from airflow_sm_git.core.names import job_name, make_tags
from airflow_sm_git.local.pytest_plugin import LocalSageMaker
from airflow_sm_git.operators.base import task_key
from tests import steps
from tests.airflow_runner import Run, Runner
from tests.local.sagemaker_requests import BUCKET, client, training_job, unique

WAITING = [pytest.param(False, id="in the worker"), pytest.param(True, id="deferred")]


@pytest.fixture
def server(local_sagemaker: LocalSageMaker) -> LocalSageMaker:
    return local_sagemaker


@task
def setup() -> None:
    """Where a real chain checks out."""


@task(retries=0)
def work(fail: bool) -> None:
    if fail:
        raise ValueError("the work failed")


class Chain:
    """A setup, a deploy, work after it, and the teardown."""

    def __init__(self, airflow: Runner, *, fail: bool = False, deploy: Any = None, **teardown: Any) -> None:
        self.airflow, self.server = airflow, airflow.sagemaker
        with airflow.dag() as self.dag:
            first = setup()
            server = self.server
            data = {"package": steps.package(server), "model_data": steps.model_data(server)}
            last = first >> steps.deploy(**{**data, **(deploy or {})}) >> work(fail)
            options = {"task_id": "teardown", "check_interval": 0.05, **teardown}
            down = TeardownOperator(**options).as_teardown(setups=first, on_failure_fail_dagrun=True)
            last >> down

    def run(self) -> Run:
        return self.airflow.run(self.dag)

    @property
    def left(self) -> list[str]:
        return steps.left_of(self.server, self.dag.dag_id)


@pytest.fixture
def kept(server: LocalSageMaker) -> Iterator[list[str]]:
    """Endpoints that a test means to keep; removed afterwards."""
    names: list[str] = []
    yield names
    for name in names:
        steps.clean_up(server, name)


def test_after_success_endpoint_configuration_and_model_are_gone(airflow: Runner) -> None:
    chain = Chain(airflow)
    run = chain.run()
    made = run.xcom("deploy")
    assert run.state == "success", run.errors
    assert "may still make something" not in run.log
    assert chain.left == []
    assert run.xcom("teardown") == {
        "schema": 1,
        "policy": "on_success",
        "deleted": [
            f"Endpoint {made['endpoint_name']}",
            f"EndpointConfig {made['endpoint_config_name']}",
            f"Model {made['model_name']}",
        ],
        "kept": [],
        "lease_until": None,
        "remove_command": None,
    }


def test_after_a_failure_they_are_kept_and_the_task_says_so_by_skipping_itself(
    airflow: Runner, kept: list[str]
) -> None:
    chain = Chain(airflow, fail=True)
    run = chain.run()
    name = run.xcom("deploy")["endpoint_name"]
    kept.append(name)
    assert run.states["teardown"] == "skipped"
    assert len(chain.left) == 3
    assert run.xcom("teardown", "kept") == {
        "schema": 1,
        "policy": "on_success",
        "deleted": [],
        "kept": [name],
        "lease_until": run.xcom("deploy")["lease_until"],
        "remove_command": f"airflow-sm-git sweep --delete --endpoint {name}",
    }
    assert f"Endpoint {name} is kept, because work did not succeed" in run.log


def test_always_deletes_after_a_failure_too(airflow: Runner) -> None:
    chain = Chain(airflow, fail=True, policy="always")
    run = chain.run()
    assert run.states["teardown"] == "success", run.errors
    assert chain.left == []


def test_never_keeps_after_success_too(airflow: Runner, kept: list[str]) -> None:
    chain = Chain(airflow, policy="{{ 'never' }}")
    run = chain.run()
    kept.append(run.xcom("deploy")["endpoint_name"])
    assert run.states["teardown"] == "skipped"
    assert len(chain.left) == 3
    assert "because the policy is 'never'" in run.log


@pytest.mark.parametrize("deferrable", WAITING)
def test_an_endpoint_that_still_comes_up_is_waited_for_and_then_deleted(
    airflow: Runner, server: LocalSageMaker, tmp_path: Path, deferrable: bool
) -> None:
    flag = tmp_path / "flag"
    deploy = {"environment": {"WAIT_FOR": str(flag)}, "wait_for_completion": False}
    chain = Chain(airflow, deploy=deploy, policy="always", deferrable=deferrable)

    begun: list[int] = []
    chain.dag.task_dict["teardown"]._pre_execute_hook = lambda context: begun.append(len(server.requests()))

    def release() -> None:
        steps.until(lambda: begun and steps.actions(server, begun[0]).count("DescribeEndpoint") > 1, bool)
        flag.touch()

    with steps.meanwhile(release):
        run = chain.run()
    assert run.states["teardown"] == "success", run.errors
    assert run.deferrals == (["teardown"] if deferrable else [])
    assert chain.left == []


@pytest.mark.parametrize("deferrable", WAITING)
def test_an_endpoint_that_cannot_be_deleted_in_time_is_a_red_run(
    airflow: Runner, server: LocalSageMaker, tmp_path: Path, kept: list[str], deferrable: bool
) -> None:
    flag = tmp_path / "flag"
    deploy = {"environment": {"WAIT_FOR": str(flag)}, "wait_for_completion": False}
    chain = Chain(airflow, deploy=deploy, deferrable=deferrable, wait_timeout=1)
    run = chain.run()
    kept.append(run.xcom("deploy")["endpoint_name"])
    flag.touch()
    assert (run.state, run.states["teardown"]) == ("failed", "failed")
    assert "was still Creating" in str(run.errors["teardown"])
    assert "Clear this task later." in str(run.errors["teardown"])


def several(airflow: Runner, flags: dict[str, Path], **teardown: Any) -> Any:
    """A DAG with a deploy for each flag, whose endpoint comes up when the flag is there, and one teardown."""
    with airflow.dag() as dag:
        first = setup()
        server = airflow.sagemaker
        data = {"package": steps.package(server), "model_data": steps.model_data(server), "wait_for_completion": False}
        deploys = [
            steps.deploy(task_id=task_id, environment={"WAIT_FOR": str(flag)}, **data)
            for task_id, flag in flags.items()
        ]
        down = TeardownOperator(task_id="teardown", check_interval=0.05, policy="always", **teardown)
        first >> deploys >> down.as_teardown(setups=first, on_failure_fail_dagrun=True)
    return dag


@pytest.mark.parametrize("deferrable", WAITING)
def test_an_endpoint_that_cannot_be_deleted_keeps_no_other_from_it(
    airflow: Runner, server: LocalSageMaker, tmp_path: Path, kept: list[str], deferrable: bool
) -> None:
    flags = {task_id: tmp_path / task_id for task_id in "abc"}
    dag = several(airflow, flags, wait_timeout=12, deferrable=deferrable)
    dag.task_dict["teardown"]._going = 1
    flags["c"].touch()
    asked = len(server.requests())

    def release() -> None:
        steps.until(lambda: "DeleteEndpoint" in steps.actions(server, asked), bool)
        flags["b"].touch()  # while a is waited for

    with steps.meanwhile(release):
        run = airflow.run(dag)
    names = {task_id: run.xcom(task_id)["endpoint_name"] for task_id in flags}
    kept.append(names["a"])
    flags["a"].touch()
    assert (run.state, run.states["teardown"]) == ("failed", "failed")
    assert f"Endpoint {names['a']!r} was still Creating" in str(run.errors["teardown"])
    assert len(steps.left_of(server, dag.dag_id)) == 3, "the stuck one with its configuration and its model"
    assert names["a"] in steps.left_of(server, dag.dag_id)


def test_what_is_deleted_before_another_is_waited_for_is_in_the_record(
    airflow: Runner, server: LocalSageMaker, tmp_path: Path
) -> None:
    flags = {task_id: tmp_path / task_id for task_id in "ab"}
    dag = several(airflow, flags, deferrable=True)
    dag.task_dict["teardown"]._going = 0.5
    flags["b"].touch()
    asked = len(server.requests())

    def release() -> None:
        steps.until(lambda: "DeleteEndpoint" in steps.actions(server, asked), bool)
        flags["a"].touch()

    with steps.meanwhile(release):
        run = airflow.run(dag)
    assert "teardown" in run.deferrals
    names = [run.xcom(task_id)["endpoint_name"] for task_id in ("b", "a")]
    deleted = [title for title in run.xcom("teardown")["deleted"] if title.startswith("Endpoint ")]
    assert deleted == [f"Endpoint {name}" for name in names]
    assert steps.left_of(server, dag.dag_id) == []


def test_what_an_index_made_that_the_mapping_has_no_more_is_deleted(airflow: Runner) -> None:
    chain = Chain(airflow)
    down = chain.dag.task_dict["teardown"]
    down._pre_execute_hook = lambda context: airflow.set_state(chain.dag, "deploy", "removed")
    run = chain.run()
    assert run.states["teardown"] == "success", run.errors
    assert chain.left == []


def test_what_is_gone_already_is_success(airflow: Runner, server: LocalSageMaker) -> None:
    chain = Chain(airflow)
    down = chain.dag.task_dict["teardown"]
    down._pre_execute_hook = lambda context: steps.clean_up(server, chain.left[0])
    run = chain.run()
    assert run.state == "success", run.errors
    assert run.xcom("teardown")["deleted"] == []


def test_a_deploy_that_failed_is_torn_down_too(airflow: Runner, tmp_path: Path) -> None:
    chain = Chain(airflow, deploy={"environment": {"NEEDS": str(tmp_path / "never")}}, policy="always")
    run = chain.run()
    assert (run.states["deploy"], run.states["teardown"]) == ("failed", "success"), run.errors
    assert "may still make something" not in run.log, "it has ended by itself"
    assert chain.left == []


def test_an_endpoint_in_use_by_somebody_else_is_left_alone(
    airflow: Runner, server: LocalSageMaker, kept: list[str]
) -> None:
    name = unique("standing")
    run = Chain(airflow, deploy={"endpoint_name": name}, policy="always").run()
    kept.append(name)
    assert run.xcom("teardown")["deleted"] == []
    assert client(server, "sagemaker").describe_endpoint(EndpointName=name)["EndpointStatus"] == "InService"


def test_a_resource_with_the_name_but_not_the_tags_of_the_run_is_left_alone(
    airflow: Runner, server: LocalSageMaker
) -> None:
    chain = Chain(airflow)
    names = []

    def disown(context: Any) -> None:
        sagemaker = client(server, "sagemaker")
        (model,) = [name for name in chain.left if sagemaker.list_models(NameContains=name)["Models"]][-1:]
        arn = sagemaker.describe_model(ModelName=model)["ModelArn"]
        sagemaker.add_tags(ResourceArn=arn, Tags=[{"Key": "sm-git:namespace", "Value": "other"}])
        names.append(model)

    chain.dag.task_dict["teardown"]._pre_execute_hook = disown
    chain.run()
    assert chain.left == names
    client(server, "sagemaker").delete_model(ModelName=names[0])


def test_a_job_that_still_runs_is_stopped(airflow: Runner, server: LocalSageMaker, tmp_path: Path) -> None:
    with airflow.dag() as dag:
        first = setup()
        train = steps.train(
            package=steps.package(server),
            hyperparameters={"wait-for": str(tmp_path / "never")},
            wait_for_completion=False,
        )
        down = TeardownOperator(task_id="teardown", check_interval=0.05)
        first >> train >> down.as_teardown(setups=first, on_failure_fail_dagrun=True)
    run = airflow.run(dag)
    (job,) = steps.jobs_of(server, dag.dag_id)
    assert run.xcom("teardown")["deleted"] == [f"TrainingJob {job['TrainingJobName']}"]
    assert steps.tags_of(server, job["TrainingJobArn"])["stopped-by"] == "teardown"
    assert job["TrainingJobStatus"] in ("Stopping", "Stopped")


class CutOff:
    """Lets a task end as one that somebody marks while it runs: without a record or an error of it, and its process
    makes something when the teardown has begun.

    :param make: given the task's context, what that process makes.
    :param state: what the task is marked as.
    """

    def __init__(self, airflow: Runner, dag: Any, task_id: str, make: Callable[[Any], object], state: str) -> None:
        begun = threading.Event()

        def work_on(context: Any) -> None:
            begun.wait(60)
            time.sleep(1)  # what looks only once has looked then
            make(context)

        def cut_off(context: Any) -> None:
            self.process = threading.Thread(target=work_on, args=[context])
            self.process.start()
            raise SystemError("killed")

        def begin(context: Any) -> None:
            airflow.set_state(dag, task_id, state)
            begun.set()

        dag.task_dict[task_id]._pre_execute_hook = cut_off
        dag.task_dict["teardown"]._pre_execute_hook = begin
        dag.task_dict["teardown"]._linger = 3.0


def make_endpoint(context: Any) -> None:
    """What a deploy makes, without waiting for it."""
    operator = context["task"]
    client = operator.aws().sagemaker()
    requests = operator._requests(context, client.region)
    deployment = Deployment(client, requests, log=operator.log.info, log_end=lambda reason: "")
    deployment.settle(None, wait=lambda asked: None, to_the_end=False)


@pytest.mark.parametrize("state", ["failed", "success"])
def test_what_a_deploy_makes_after_it_was_marked_is_deleted_too(airflow: Runner, state: str) -> None:
    chain = Chain(airflow, policy="always")
    cut_off = CutOff(airflow, chain.dag, "deploy", make_endpoint, state)
    run = chain.run()
    cut_off.process.join()
    assert run.states["teardown"] == "success", run.errors
    assert len(run.xcom("teardown")["deleted"]) == 3
    assert chain.left == []


def test_what_a_deploy_makes_after_it_was_marked_is_named_where_it_is_kept(airflow: Runner, kept: list[str]) -> None:
    chain = Chain(airflow)
    cut_off = CutOff(airflow, chain.dag, "deploy", make_endpoint, "failed")
    run = chain.run()
    cut_off.process.join()
    kept += chain.left[:1]
    assert run.xcom("teardown", "kept")["kept"] == kept != []


def test_a_job_that_is_submitted_after_its_task_was_marked_is_stopped(
    airflow: Runner, server: LocalSageMaker, tmp_path: Path
) -> None:
    def submit(context: Any) -> None:
        tags = make_tags(context["task"].ownership(context))
        request = training_job(server, steps.TRAIN, name=job_name(task_key(context), 1), Tags=tags)
        request["HyperParameters"] |= {"wait-for": str(tmp_path / "never")}
        client(server, "sagemaker").create_training_job(**request)

    with airflow.dag() as dag:
        first = setup()
        train = steps.train(package=steps.package(server))
        down = TeardownOperator(task_id="teardown", check_interval=0.05)
        first >> train >> down.as_teardown(setups=first, on_failure_fail_dagrun=True)
    cut_off = CutOff(airflow, dag, "train", submit, "failed")
    run = airflow.run(dag)
    cut_off.process.join()
    (job,) = steps.jobs_of(server, dag.dag_id)
    assert job["TrainingJobStatus"] in ("Stopping", "Stopped")
    assert f"Stopped, because they were still running: TrainingJob {job['TrainingJobName']}" in run.log


def test_each_index_of_a_mapped_chain_tears_down_its_own(
    airflow: Runner, server: LocalSageMaker, kept: list[str]
) -> None:
    from airflow.sdk import task_group

    with airflow.dag() as dag:

        @task_group
        def each(weights: str) -> None:
            first = setup()
            deploy = steps.deploy(package=steps.package(server), model_data=weights)
            failing = task(lambda ti: 1 / ti.map_index, task_id="work")()
            down = TeardownOperator(task_id="teardown", check_interval=0.05)
            first >> deploy >> failing >> down.as_teardown(setups=first, on_failure_fail_dagrun=True)

        each.expand(weights=[steps.model_data(server, "one"), steps.model_data(server, "two")])
    run = airflow.run(dag)
    zero, one = (run.xcom("each.deploy", map_index=index) for index in (0, 1))
    kept.append(zero["endpoint_name"])
    assert (run.states["each.teardown[0]"], run.states["each.teardown[1]"]) == ("skipped", "success"), run.errors
    assert zero["endpoint_name"] in steps.left_of(server, dag.dag_id)
    assert one["endpoint_name"] not in steps.left_of(server, dag.dag_id)


def test_an_unknown_policy_is_refused_with_the_nearest(airflow: Runner, kept: list[str]) -> None:
    run = Chain(airflow, policy="on_sucess").run()
    kept.append(run.xcom("deploy")["endpoint_name"])
    assert run.state == "failed"
    assert "policy='on_sucess'" in str(run.errors["teardown"])
    assert "Did you mean 'on_success'?" in str(run.errors["teardown"])


def test_it_warns_where_nothing_has_swept_for_a_week_and_not_after_a_sweep(
    airflow: Runner, server: LocalSageMaker
) -> None:
    prefix = f"s3://{BUCKET}/{unique('swept')}/"
    assert "Nothing has swept the namespace" in Chain(airflow, s3_uri_prefix=prefix).run().log
    with airflow.dag() as dag:
        SweepOperator(task_id="sweep", delete=True, s3_uri_prefix=prefix)
    assert airflow.run(dag).state == "success"
    assert "Nothing has swept the namespace" not in Chain(airflow, s3_uri_prefix=prefix).run().log
