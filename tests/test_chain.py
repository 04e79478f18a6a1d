"""The chain: one function call gives the whole path from a commit to a prediction and back down."""

from __future__ import annotations

import inspect
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from airflow_sm_git import train_deploy_predict
from airflow_sm_git.core.errors import BadParameter
from airflow_sm_git.local.pytest_plugin import LocalSageMaker
from tests import steps
from tests.airflow_runner import Run, Runner
from tests.git_server import Repository
from tests.local.sagemaker_requests import BUCKET, IMAGE, ROLE, client, unique

FAST = {step: {"check_interval": 0.05} for step in ("train", "deploy", "teardown")}
MINIMAL = {"entry_point": "train.py", "source_dir": "src", "image_uri": IMAGE, "role": ROLE, "data": "hi"}


@pytest.fixture
def server(local_sagemaker: LocalSageMaker) -> LocalSageMaker:
    return local_sagemaker


@pytest.fixture
def repository(tmp_path: Path) -> Repository:
    made = Repository(tmp_path / "repository")
    made.commit(steps.files())
    return made


@pytest.fixture
def kept(server: LocalSageMaker) -> Iterator[list[str]]:
    """Endpoints that a test means to keep; removed afterwards."""
    names: list[str] = []
    yield names
    for name in names:
        steps.clean_up(server, name)


def run_chain(airflow: Runner, repository: Repository, conf: dict[str, Any] | None = None, **options: Any) -> Run:
    defaults = {**MINIMAL, "repo": repository.url, "hosting_entry_point": "serve.py"}
    steps_given = {step: {**FAST.get(step, {}), **options.pop(step, {})} for step in {*FAST, *options} & _STEPS}
    with airflow.dag() as dag:
        train_deploy_predict(**{**defaults, **options, **steps_given})
    return airflow.run(dag, conf)


_STEPS = {"checkout", "package", "train", "deploy", "predict", "teardown"}


def step(run: Run, name: str, key: str = "return_value") -> Any:
    return run.xcom(f"train_deploy_predict.{name}", key)


@pytest.mark.parametrize("deferrable", [False, True])
def test_it_leads_from_a_commit_to_a_prediction_and_back_down(
    airflow: Runner, server: LocalSageMaker, repository: Repository, deferrable: bool
) -> None:
    run = run_chain(airflow, repository, hyperparameters={"text": "trained"}, deferrable=deferrable)
    assert run.state == "success", run.errors
    assert set(run.states.values()) == {"success"}
    answer = step(run, "predict")["body"]
    assert (answer["model"], answer["body"]) == ("trained", "hi")
    assert {step(run, name)["commit"] for name in ("checkout", "package", "train", "deploy")} == {
        repository.sha("main")
    }
    report = step(run, "report")
    assert report["succeeded"] is True
    assert set(report["indexes"]["-1"]) == {
        *("checkout", "package", "training_job", "endpoint", "prediction", "teardown")
    }
    assert steps.left_of(server, run.dag.dag_id) == []
    waited = {"train_deploy_predict.train", "train_deploy_predict.deploy"}
    assert (waited <= set(run.deferrals)) if deferrable else run.deferrals == []


def test_a_prediction_that_fails_ends_the_run_red_and_the_report_names_what_is_kept(
    airflow: Runner, server: LocalSageMaker, repository: Repository, kept: list[str]
) -> None:
    run = run_chain(airflow, repository, data="please raise")
    name = step(run, "deploy")["endpoint_name"]
    kept.append(name)
    error = str(run.errors["train_deploy_predict.report"])
    assert run.state == "failed"
    assert run.states["train_deploy_predict.teardown"] == "skipped"
    assert "train_deploy_predict.predict (failed)" in error
    assert f"Kept until {step(run, 'deploy')['lease_until']}: {name}." in error
    assert f"Remove it with:\n    airflow-sm-git sweep --delete --endpoint {name}" in error
    assert step(run, "report")["indexes"]["-1"]["teardown"]["kept"] == [name]


def test_under_always_a_failed_run_leaves_nothing(
    airflow: Runner, server: LocalSageMaker, repository: Repository
) -> None:
    run = run_chain(airflow, repository, data="please raise", policy="always")
    assert run.state == "failed"
    assert run.states["train_deploy_predict.teardown"] == "success"
    assert steps.left_of(server, run.dag.dag_id) == []


@pytest.mark.parametrize("report", [True, False])
def test_a_delete_that_fails_ends_the_run_red(
    airflow: Runner, server: LocalSageMaker, repository: Repository, tmp_path: Path, kept: list[str], report: bool
) -> None:
    flag = tmp_path / "flag"
    waiting = {"environment": {"WAIT_FOR": str(flag)}, "wait_for_completion": False}
    run = run_chain(airflow, repository, data=None, deploy=waiting, teardown={"wait_timeout": 0.5}, report=report)
    kept.append(step(run, "deploy")["endpoint_name"])
    flag.touch()
    assert run.state == "failed"
    assert run.states["train_deploy_predict.teardown"] == "failed"
    if report:
        assert "train_deploy_predict.teardown (failed)" in str(run.errors["train_deploy_predict.report"])


def test_a_checkout_that_fails_tears_nothing_down_and_is_red(airflow: Runner, repository: Repository) -> None:
    run = run_chain(airflow, repository, ref="no-such-branch")
    assert run.state == "failed"
    assert "train_deploy_predict.checkout (failed)" in str(run.errors["train_deploy_predict.report"])


def test_other_hosting_code_of_the_same_commit_may_lie_in_another_directory(
    airflow: Runner, server: LocalSageMaker, repository: Repository
) -> None:
    repository.commit({"web/answer.py": steps.SERVE.replace('"by": "serve"', '"by": "web"').encode()})
    run = run_chain(airflow, repository, hosting_entry_point="answer.py", hosting_source_dir="web")
    assert run.state == "success", run.errors
    assert step(run, "predict")["body"]["by"] == "web"
    trained, hosted = step(run, "package"), step(run, "package_hosting")
    assert (trained["source_dir"], hosted["source_dir"]) == ("src", "web")
    assert trained["commit"] == hosted["commit"]
    assert step(run, "deploy")["digest"] == hosted["digest"] != trained["digest"]


def test_without_a_source_dir_each_script_is_a_package(airflow: Runner, repository: Repository) -> None:
    run = run_chain(
        airflow, repository, source_dir=None, entry_point="src/train.py", hosting_entry_point="src/serve.py"
    )
    assert run.state == "success", run.errors
    assert step(run, "package")["entry_point"] == "train.py"
    assert step(run, "package_hosting")["entry_point"] == "serve.py"


def test_the_way_of_hosting_goes_into_a_step(airflow: Runner, repository: Repository) -> None:
    run = run_chain(airflow, repository, deploy={"hosting": "s3"})
    assert run.state == "success", run.errors
    assert run.dag.task_dict["train_deploy_predict.deploy"].hosting == "s3"


def test_no_data_means_no_prediction_and_the_report_can_be_left_out(airflow: Runner, repository: Repository) -> None:
    run = run_chain(airflow, repository, data=None, report=False)
    names = {name.removeprefix("train_deploy_predict.") for name in run.states}
    assert names == {"checkout", "package", "train", "deploy", "teardown"}
    assert run.state == "success", run.errors


def test_a_mapped_chain_runs_one_commit_per_index(
    airflow: Runner, server: LocalSageMaker, repository: Repository
) -> None:
    from airflow.sdk import task_group

    from airflow_sm_git import ReportOperator

    shas = [repository.sha("main"), repository.commit({"src/note.txt": b"2"})]
    with airflow.dag() as dag:

        @task_group
        def each(ref: str) -> None:
            options = {**MINIMAL, "repo": repository.url, "hosting_entry_point": "serve.py", **FAST}
            train_deploy_predict(ref=ref, group_id="chain", report=False, **options)

        each.expand(ref=shas) >> ReportOperator(task_id="report")
    run = airflow.run(dag)
    assert run.state == "success", run.errors
    reported = run.xcom("report")["indexes"]
    assert [reported[index]["checkout"]["commit"] for index in ("0", "1")] == shas
    assert reported["0"]["endpoint"]["endpoint_name"] != reported["1"]["endpoint"]["endpoint_name"]
    assert steps.left_of(server, dag.dag_id) == []


def test_every_parameter_arrives(
    airflow: Runner, server: LocalSageMaker, repository: Repository, monkeypatch: pytest.MonkeyPatch
) -> None:
    connection = server.env["AIRFLOW_CONN_AWS_DEFAULT"].replace("us-east-1", "ap-south-1")
    monkeypatch.setenv("AIRFLOW_CONN_ELSEWHERE", connection)
    monkeypatch.delenv("AIRFLOW_CONN_AWS_DEFAULT")
    tip = repository.commit({"lib/extra.py": b"", "web/serve.py": steps.SERVE.encode()})
    repository.commit({"src/later.py": b""})
    prefix = f"s3://{BUCKET}/{unique('chain')}"
    client(server, "s3").put_object(Bucket=BUCKET, Key=f"{prefix.removeprefix(f's3://{BUCKET}/')}/data/a", Body=b"a")
    given: dict[str, Any] = {
        "entry_point": "train.py",
        "image_uri": f"{IMAGE}-train",
        "repo": repository.url,
        "ref": "main",
        "as_of": "2024-01-01T02:30:00+00:00",
        "paths": ["src", "lib"],
        "source_dir": "src",
        "dependencies": ["lib/extra.py"],
        "submodules": True,
        "hosting_entry_point": "serve.py",
        "hosting_source_dir": "web",
        "hosting_image_uri": f"{IMAGE}-host",
        "role": "sm-git-local",
        "inputs": {"words": f"{prefix}/data/"},
        "hyperparameters": {"text": "distinct"},
        "metric_definitions": [{"Name": "score", "Regex": "score=([0-9.]+)"}],
        "data": "a payload",
        "policy": "always",
        "aws_conn_id": "elsewhere",
        "region_name": "us-east-1",
        "s3_uri_prefix": prefix,
        "deferrable": True,
        "check_interval": 0.05,
        "group_id": "chain",
        "report": True,
    }
    others = {
        "git_conn_id": test_a_connection_may_name_the_repository,
        "git_config": test_git_config_stands_for_repository_and_ref,
        "steps": test_the_way_of_hosting_goes_into_a_step,
    }
    assert {*given, *others} == set(inspect.signature(train_deploy_predict).parameters)
    with airflow.dag() as dag:
        train_deploy_predict(**given)
    run = airflow.run(dag)
    assert run.state == "success", run.errors
    values = {task: run.xcom(f"chain.{task}") for task in (*_STEPS, "package_hosting", "report")}
    job = client(server, "sagemaker").describe_training_job(TrainingJobName=values["train"]["job_name"])
    assert [values["checkout"][key] for key in ("repo", "ref", "commit")] == [repository.url, "main", tip]
    assert values["package"]["file_count"] == 3
    assert values["package"]["s3_uri"].startswith(prefix)
    assert values["package_hosting"]["source_dir"] == "web"
    assert job["AlgorithmSpecification"]["TrainingImage"] == f"{IMAGE}-train"
    assert job["RoleArn"] == ROLE
    assert [channel["ChannelName"] for channel in job["InputDataConfig"]] == ["words"]
    assert values["train"]["metrics"] == {"score": 0.5}
    assert values["train"]["region"] == "us-east-1", "the server refuses the connection's"
    assert dag.task_dict["chain.deploy"].image_uri == f"{IMAGE}-host"
    assert [dag.task_dict[f"chain.{name}"].check_interval for name in FAST] == [0.05] * 3
    assert (values["predict"]["body"]["model"], values["predict"]["body"]["body"]) == ("distinct", "a payload")
    assert values["teardown"]["policy"] == "always"
    assert {"chain.train", "chain.deploy"} <= set(run.deferrals)
    assert values["report"]["succeeded"]


def test_a_connection_may_name_the_repository(
    airflow: Runner, repository: Repository, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AIRFLOW_CONN_CODE", json.dumps({"conn_type": "git", "host": repository.url}))
    both = "import sys\nif __name__ == '__main__':\n" + "".join(f"    {line}\n" for line in steps.TRAIN.splitlines())
    repository.commit({"src/both.py": (both + steps.SERVE).encode()})
    options = {"repo": None, "git_conn_id": "code", "entry_point": "both.py", "hosting_entry_point": None}
    run = run_chain(airflow, repository, **options)
    assert run.state == "success", run.errors
    assert step(run, "predict")["body"]["by"] == "serve", "one script may train and serve"


def test_git_config_stands_for_repository_and_ref(airflow: Runner, repository: Repository) -> None:
    first = repository.sha("main")
    repository.commit({"later.txt": b""})
    run = run_chain(airflow, repository, repo=None, git_config={"repo": repository.url, "commit": first}, data=None)
    assert run.state == "success", run.errors
    assert step(run, "package")["commit"] == first


def test_a_step_that_does_not_exist_is_refused_when_the_file_is_parsed(airflow: Runner) -> None:
    with airflow.dag(), pytest.raises(BadParameter, match=r"steps=\['trian'\].*checkout, package, train"):
        train_deploy_predict(**MINIMAL, repo="https://example.com/r.git", trian={})
