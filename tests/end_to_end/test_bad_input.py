"""Every mistake that a user can make names the parameter, its value and what to do; nothing is left behind unsaid."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from airflow_sm_git import train_deploy_predict
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
    made.commit(steps.files(**{"src/notes/read.me": "x"}), links={"src/outside": "../../etc"})
    made.commit({"src/outside": None})
    return made


def run_chain(airflow: Runner, repository: Repository, **options: Any) -> Run:
    defaults = {"entry_point": "train.py", "source_dir": "src", "image_uri": IMAGE, "role": ROLE, "data": "hi"}
    with airflow.dag() as dag:
        arguments = {**defaults, "repo": repository.url, "ref": "main", "check_interval": 0.05, **options}
        train_deploy_predict(group_id="chain", hosting_entry_point="serve.py", **arguments)
    return airflow.run(dag)


# What is wrong; the task that says so; what its error must hold: the parameter, the value, what to do.
CASES: dict[str, tuple[dict[str, Any], str, list[str]]] = {
    "unknown ref": ({"ref": "mian"}, "checkout", ["mian", "main"]),
    "unknown commit": ({"ref": "f" * 40}, "checkout", ["f" * 40, "pushed?"]),
    "a repository that is not there": ({"repo": "file:///no/such/repository"}, "checkout", ["/no/such/repository"]),
    "a scheme that is not allowed": ({"repo": "ftp://example.com/r.git"}, "checkout", ["ftp", "https"]),
    "a source_dir that the commit lacks": ({"source_dir": "source"}, "package", ["source_dir", "'source'", "src"]),
    "a source_dir that is a file": ({"source_dir": "src/train.py"}, "package", ["source_dir", "src/train.py"]),
    "an entry point that the commit lacks": (
        {"entry_point": "tarin.py"},
        "package",
        ["entry_point", "tarin.py", "train.py"],
    ),
    "a source_dir outside": ({"source_dir": "../../etc"}, "package", ["source_dir", "../../etc"]),
    "an absolute source_dir": ({"source_dir": "/etc"}, "package", ["source_dir", "/etc"]),
    "an entry point outside": ({"entry_point": "../../train.py"}, "package", ["entry_point", "../../train.py"]),
    "a dependency outside": ({"dependencies": ["../lib"]}, "package", ["dependencies", "../lib"]),
    "a bucket that is not there": (
        {"s3_uri_prefix": "s3://no-such-bucket-here/x"},
        "package",
        ["s3://no-such-bucket-here/x"],
    ),
    "a prefix that is no S3 URI": ({"s3_uri_prefix": "bucket/x"}, "package", ["s3_uri_prefix='bucket/x'", "s3://"]),
    "a malformed image": (
        {"image_uri": "an image"},
        "train",
        ["image_uri='an image'", "dkr.ecr.<region>.amazonaws.com"],
    ),
    "a malformed role": ({"role": "arn:aws:iam::1:role/x"}, "train", ["role='arn:aws:iam::1:role/x'", "<12 digits>"]),
    "a role that is not there": ({"role": "nobody"}, "train", ["role='nobody'", "Give its ARN, or an existing name."]),
    "no role": ({"role": None}, "train", ["role=None", "set [sm_git] role"]),
    "a malformed instance type": (
        {"train": {"instance_type": "m5.xlarge"}},
        "train",
        ["instance_type='m5.xlarge'", "ml.m5.xlarge"],
    ),
    "an instance type that AWS has not": (
        {"train": {"instance_type": "ml.m5.huge"}},
        "train",
        ["ml.m5.huge"],
    ),
    "a channel without data": (
        {"inputs": {"words": f"s3://{BUCKET}/nothing/here/"}},
        "train",
        [f"inputs['words']='s3://{BUCKET}/nothing/here/': there is no object", "Put the data there"],
    ),
    "a channel of an empty folder": ({"inputs": "file:///no/such/folder"}, "train", ["file:///no/such/folder"]),
    "a channel that is no URI": ({"inputs": {"words": "here"}}, "train", ["inputs['words']='here'", "s3://<bucket>"]),
    "hyperparameters that are no JSON": ({"hyperparameters": "{a"}, "train", ["hyperparameters='{a'", "is not JSON"]),
    "a number that is none": ({"train": {"max_run": "soon"}}, "train", ["max_run='soon'", "is not a number"]),
    "a choice that is none": (
        {"train": {"input_mode": "file"}},
        "train",
        ["input_mode='file'", "Did you mean 'File'?"],
    ),
    "a script that exits 1": ({"hyperparameters": {"fail": "1"}}, "train", ["ExitCode 1", "a last word"]),
    "a malformed hosting image": ({"hosting_image_uri": "an image"}, "deploy", ["image_uri='an image'"]),
    "an unknown way of hosting": ({"deploy": {"hosting": "s4"}}, "deploy", ["hosting='s4'", "repack, s3"]),
    "an override for another call": (
        {"deploy": {"config_overrides": {"CreateModle": {}}}},
        "deploy",
        ["config_overrides='CreateModle'", "Did you mean 'CreateModel'?"],
    ),
    "a malformed endpoint name": (
        {"deploy": {"endpoint_name": "an_endpoint"}},
        "deploy",
        ["endpoint_name='an_endpoint'", "letters, digits and inner hyphens"],
    ),
    "a handler that is not there": ({"deploy": {"entry_point": "sevre.py"}}, "deploy", ["ping health check"]),
    "a handler that raises": ({"data": "please raise"}, "predict", ["the handler raised this", "Correct the handlers"]),
}


@pytest.mark.parametrize("case", CASES)
def test_a_mistake_is_named_and_nothing_remains(
    airflow: Runner, server: LocalSageMaker, repository: Repository, case: str
) -> None:
    options, task, holds = CASES[case]
    run = run_chain(airflow, repository, policy="always", **options)
    error = str(run.errors.get(f"chain.{task}"))
    assert run.state == "failed"
    assert [part for part in holds if part not in error] == [], error
    before = [name for name, state in run.states.items() if state == "failed"]
    assert set(before) == {f"chain.{task}", "chain.report"}, "no other task has failed"
    assert run.states["chain.teardown"] in ("success", "upstream_failed")
    assert steps.left_of(server, run.dag.dag_id) == []


def test_a_link_that_leaves_the_repository_is_not_followed(airflow: Runner, repository: Repository) -> None:
    repository.commit(links={"src/outside": "../../../etc/passwd"})
    run = run_chain(airflow, repository)
    assert "outside" in str(run.errors["chain.package"])


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
