"""Every mistake that a user can make names the parameter, its value and what to do; nothing is left behind unsaid."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from airflow_sm_git import GitCheckoutOperator, PackageSourceOperator, train_deploy_predict
from airflow_sm_git.local.pytest_plugin import LocalSageMaker
from tests import steps
from tests.airflow_runner import Run, Runner
from tests.git_server import Repository
from tests.local.sagemaker_requests import BUCKET, IMAGE, ROLE, client


@pytest.fixture
def server(local_sagemaker: LocalSageMaker) -> LocalSageMaker:
    return local_sagemaker


@pytest.fixture
def repository(tmp_path: Path) -> Repository:
    made = Repository(tmp_path / "repository")
    made.commit(steps.files(**{"linking/a.py": ""}), links={"linking/outside": "../../../etc/passwd"})
    return made


def run_chain(airflow: Runner, repository: Repository, **options: Any) -> Run:
    defaults = {"entry_point": "train.py", "source_dir": "src", "image_uri": IMAGE, "role": ROLE, "data": "hi"}
    with airflow.dag() as dag:
        arguments = {**defaults, "repo": repository.url, "ref": "main", "check_interval": 0.05, **options}
        train_deploy_predict(group_id="chain", hosting_entry_point="serve.py", **arguments)
    return airflow.run(dag)


# What is wrong, and what the error must hold: the parameter, its value, what to do.
Cases = dict[str, tuple[dict[str, Any], list[str]]]
CHECKOUT: Cases = {
    "unknown ref": ({"ref": "mian"}, ["mian", "main"]),
    "unknown commit": ({"ref": "f" * 40}, ["f" * 40, "pushed?"]),
    "a repository that is not there": ({"repo": "file:///no/such/repository"}, ["/no/such/repository"]),
    "a scheme that is not allowed": ({"repo": "ftp://example.com/r.git"}, ["ftp", "https"]),
}
PACKAGE: Cases = {
    "a source_dir that the commit lacks": ({"source_dir": "source"}, ["source_dir", "'source'", "src"]),
    "a source_dir that is a file": ({"source_dir": "src/train.py"}, ["source_dir", "src/train.py"]),
    "an entry point that the commit lacks": ({"entry_point": "tarin.py"}, ["entry_point", "tarin.py", "train.py"]),
    "a source_dir outside": ({"source_dir": "../../etc"}, ["source_dir", "../../etc"]),
    "an absolute source_dir": ({"source_dir": "/etc"}, ["source_dir", "/etc"]),
    "an entry point outside": ({"entry_point": "../../train.py"}, ["entry_point", "../../train.py"]),
    "a dependency outside": ({"dependencies": ["../lib"]}, ["dependencies", "../lib"]),
    "a link outside": (
        {"source_dir": "linking", "entry_point": "a.py"},
        ["'outside' → '../../../etc/passwd'", "Choose a source_dir"],
    ),
    "a bucket that is not there": ({"s3_uri_prefix": "s3://no-such-bucket-here/x"}, ["s3://no-such-bucket-here/x"]),
    "a prefix that is no S3 URI": ({"s3_uri_prefix": "bucket/x"}, ["s3_uri_prefix='bucket/x'", "s3://"]),
}
NOTHING = f"s3://{BUCKET}/nothing/here/"
TRAIN: Cases = {
    "a malformed image": ({"image_uri": "an image"}, ["image_uri='an image'", "dkr.ecr.<region>.amazonaws.com"]),
    "a malformed role": ({"role": "arn:aws:iam::1:role/x"}, ["role='arn:aws:iam::1:role/x'", "<12 digits>"]),
    "a role that is not there": ({"role": "nobody"}, ["role='nobody'", "Give its ARN, or an existing name."]),
    "no role": ({"role": None}, ["role=None", "set [sm_git] role"]),
    "a malformed instance type": ({"instance_type": "m5.xlarge"}, ["instance_type='m5.xlarge'", "ml.m5.xlarge"]),
    "an instance type that AWS has not": ({"instance_type": "ml.m5.huge"}, ["ml.m5.huge"]),
    "a channel without data": (
        {"inputs": {"words": NOTHING}},
        [f"inputs['words']='{NOTHING}': there is no object", "Put the data there"],
    ),
    "a channel of no folder": ({"inputs": "file:///no/such/folder"}, ["inputs['training']", "file:///no/such/folder"]),
    "a channel that is no URI": ({"inputs": {"words": "here"}}, ["inputs['words']='here'", "s3://<bucket>"]),
    "hyperparameters that are no JSON": ({"hyperparameters": "{a"}, ["hyperparameters='{a'", "is not JSON"]),
    "a number that is none": ({"max_run": "soon"}, ["max_run='soon'", "is not a number"]),
    "a choice that is none": ({"input_mode": "file"}, ["input_mode='file'", "Did you mean 'File'?"]),
}
DEPLOY: Cases = {
    "a malformed hosting image": ({"image_uri": "an image"}, ["image_uri='an image'", "dkr.ecr"]),
    "an unknown way of hosting": ({"hosting": "s4"}, ["hosting='s4'", "repack, s3"]),
    "an override for another call": (
        {"config_overrides": {"CreateModle": {}}},
        ["config_overrides='CreateModle'", "Did you mean 'CreateModel'?"],
    ),
    "a malformed endpoint name": (
        {"endpoint_name": "an_endpoint"},
        ["endpoint_name='an_endpoint'", "letters, digits and inner hyphens"],
    ),
}
GROUPS = {"checkout": CHECKOUT, "package": PACKAGE, "train": TRAIN, "deploy": DEPLOY}


def task_id(case: str) -> str:
    return case.replace(" ", "_")


def add_tasks(group: str, server: LocalSageMaker, repository: Repository) -> None:
    """One task for each case of a group."""
    checkout = GitCheckoutOperator(task_id="checkout", repo=repository.url).output if group == "package" else None
    package, data = steps.package(server), steps.model_data(server)
    for case, (options, _) in GROUPS[group].items():
        name = {"task_id": task_id(case)}
        if group == "checkout":
            GitCheckoutOperator(**{**name, "repo": repository.url, **options})
        elif group == "package":
            where = {"source_dir": "src", "entry_point": "train.py"}
            PackageSourceOperator(**{**name, "checkout": checkout, **where, **options})
        elif group == "train":
            steps.train(**{**name, "package": package, **options})
        else:
            steps.deploy(**{**name, "package": package, "model_data": data, **options})


@pytest.fixture(scope="module")
def runs() -> dict[str, Run]:
    """One run for each group, made by the first test that needs it."""
    return {}


@pytest.mark.parametrize(("group", "case"), [(group, case) for group, cases in GROUPS.items() for case in cases])
def test_a_mistake_is_named_with_the_parameter_its_value_and_what_to_do(
    airflow: Runner, server: LocalSageMaker, repository: Repository, runs: dict[str, Run], group: str, case: str
) -> None:
    if group not in runs:
        with airflow.dag() as dag:
            add_tasks(group, server, repository)
        runs[group] = airflow.run(dag)
    run, (_, holds) = runs[group], GROUPS[group][case]
    error = str(run.errors.get(task_id(case)))
    assert run.states[task_id(case)] == "failed"
    assert [part for part in holds if part not in error] == [], error
    assert steps.jobs_of(server, run.dag.dag_id) == []
    assert steps.left_of(server, run.dag.dag_id) == []


@pytest.mark.parametrize(
    ("options", "task", "holds"),
    [
        ({"hyperparameters": {"fail": "1"}}, "train", ["ExitCode 1", "a last word", "Correct the script"]),
        ({"deploy": {"entry_point": "sevre.py"}}, "deploy", ["ping health check", "Correct the hosting code"]),
        ({"data": "please raise"}, "predict", ["the handler raised this", "Correct the handlers or the payload."]),
    ],
    ids=["a script that exits 1", "a handler that is not there", "a handler that raises"],
)
def test_code_that_fails_is_quoted_and_under_always_nothing_remains(
    airflow: Runner, server: LocalSageMaker, repository: Repository, options: Any, task: str, holds: list[str]
) -> None:
    run = run_chain(airflow, repository, policy="always", **options)
    error = str(run.errors[f"chain.{task}"])
    assert [part for part in holds if part not in error] == [], error
    assert {name for name, state in run.states.items() if state == "failed"} == {f"chain.{task}", "chain.report"}
    assert run.states["chain.teardown"] == "success"
    assert steps.left_of(server, run.dag.dag_id) == []


def test_a_job_name_in_use_is_no_reason_to_fail(airflow: Runner, server: LocalSageMaker) -> None:
    """Somebody has the name of the first attempt, with nothing that tells whose it is: the second one is ours."""
    from airflow_sm_git.core.names import TaskKey, job_name

    with airflow.dag() as dag:
        steps.train(package=steps.package(server))
    run = airflow.create(dag)
    name = job_name(TaskKey("default", dag.dag_id, run.run_id, "train"), 1)
    stranger = steps.submit(server, name=name)
    airflow.go_on(run)
    assert run.state == "success", run.errors
    assert run.xcom("train")["job_name"] == stranger[:-1] + "2"


def test_an_endpoint_name_in_use_by_a_stranger_is_taken_over_only_by_saying_its_name(
    airflow: Runner, server: LocalSageMaker
) -> None:
    name = steps.create_endpoint(server, "theirs")
    with airflow.dag() as dag:
        steps.deploy(package=steps.package(server), model_data=steps.model_data(server, "ours"), endpoint_name=name)
    run = airflow.run(dag)
    assert run.state == "success", run.errors
    kept = client(server, "sagemaker").describe_model(ModelName=name)
    steps.clean_up(server, name)
    assert kept["ModelName"] == name, "what a stranger made is not dropped with the old versions"


def test_a_name_that_is_being_deleted_is_waited_for(airflow: Runner, server: LocalSageMaker) -> None:
    name = steps.create_endpoint(server)
    client(server, "sagemaker").delete_endpoint(EndpointName=name)
    with airflow.dag() as dag:
        steps.deploy(package=steps.package(server), model_data=steps.model_data(server), endpoint_name=name)
    run = airflow.run(dag)
    assert run.state == "success", run.errors
    steps.clean_up(server, name)
