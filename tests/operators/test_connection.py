"""What the operators' connection parameters do, and how often they look; seen on the way to the server."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path

import pytest

from airflow_sm_git import EndpointSensor, PredictOperator, TeardownOperator, TrainingJobSensor
from airflow_sm_git.local.pytest_plugin import LocalSageMaker
from tests import steps
from tests.airflow_runner import Runner
from tests.tunnel import certificate, tunnel


@pytest.fixture
def server(local_sagemaker: LocalSageMaker) -> LocalSageMaker:
    return local_sagemaker


@pytest.fixture
def heard(airflow: Runner, server: LocalSageMaker, monkeypatch: pytest.MonkeyPatch) -> Iterator[bytearray]:
    """What goes to the server, by way of the connection ``aws_default``."""
    with tunnel(server.info.port) as way:
        connection = server.env["AIRFLOW_CONN_AWS_DEFAULT"].replace(server.url, way.url)
        monkeypatch.setenv("AIRFLOW_CONN_AWS_DEFAULT", connection)
        yield way.heard


def test_every_parameter_of_predict_shows(airflow: Runner, heard: bytearray, echo: str) -> None:
    given = {
        "accept": "application/x-wanted",
        "target_variant": "AllTraffic",
        "custom_attributes": "attribute=7",
        "inference_id": "id-7",
    }
    with airflow.dag() as dag:
        PredictOperator(task_id="predict", endpoint=echo, data="x", **given)
        PredictOperator(task_id="one_of_many", endpoint=echo, data="x", target_model="model-7.tar.gz")
    run = airflow.run(dag)
    body = run.xcom("predict")["body"]
    assert run.xcom("predict")["variant"] == "AllTraffic"
    assert (body["accept"], body["attributes"]) == ("application/x-wanted", "attribute=7")
    headers = bytes(heard).lower()
    assert b"x-amzn-sagemaker-inference-id: id-7" in headers
    assert b"x-amzn-sagemaker-target-variant: alltraffic" in headers
    assert b"x-amzn-sagemaker-target-model: model-7.tar.gz" in headers


def test_botocores_own_settings_reach_it(airflow: Runner, heard: bytearray, echo: str) -> None:
    settings = {"user_agent_extra": "words/7"}
    with airflow.dag() as dag:
        PredictOperator(task_id="predict", endpoint=echo, data="x", botocore_config=settings)
    assert airflow.run(dag).state == "success"
    assert b"words/7" in heard
    heard.clear()
    with airflow.dag() as dag:
        EndpointSensor(task_id="sensor", endpoint=echo, botocore_config=settings)
    assert airflow.run(dag).state == "success"
    assert b"words/7" in heard


@pytest.mark.parametrize("kind", ["operator", "sensor"])
def test_verify_names_who_vouches_for_the_server(
    airflow: Runner, server: LocalSageMaker, echo: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    context, bundle = certificate(tmp_path)
    with tunnel(server.info.port, context) as way:
        connection = server.env["AIRFLOW_CONN_AWS_DEFAULT"].replace(server.url, way.url)
        monkeypatch.setenv("AIRFLOW_CONN_AWS_DEFAULT", connection)
        once = {"retries": {"total_max_attempts": 1}}
        with airflow.dag() as dag:
            for task_id, verify in (("default", None), ("bundle", str(bundle)), ("off", False)):
                if kind == "operator":
                    options = {"data": "x", "verify": verify, "botocore_config": once}
                    PredictOperator(task_id=task_id, endpoint=echo, **options)
                else:
                    EndpointSensor(task_id=task_id, endpoint=echo, verify=verify, botocore_config=once)
        run = airflow.run(dag)
    assert run.states == {"default": "failed", "bundle": "success", "off": "success"}, run.errors
    assert "SSL" in str(run.errors["default"])


def after_looks(server: LocalSageMaker, action: str, flag: Path) -> Callable[[], None]:
    """Makes the flag once the server was asked six times; with another interval that takes minutes."""
    asked = len(server.requests())

    def wait() -> None:
        steps.until(lambda: steps.actions(server, asked).count(action) >= 6, bool)
        flag.touch()

    return wait


def test_the_check_interval_is_the_time_between_two_looks(
    airflow: Runner, server: LocalSageMaker, tmp_path: Path
) -> None:
    times = {"check_interval": timedelta(seconds=0.02)}
    package, data = steps.package(server), steps.model_data(server)
    with airflow.dag() as dag:
        waiting = {"wait-for": str(tmp_path / "train")}
        steps.train(package=package, hyperparameters=waiting, wait_timeout=30, **times)
    with steps.meanwhile(after_looks(server, "DescribeTrainingJob", tmp_path / "train")):
        assert airflow.run(dag).state == "success"

    with airflow.dag() as dag:
        waiting = {"WAIT_FOR": str(tmp_path / "deploy")}
        steps.deploy(package=package, model_data=data, environment=waiting, wait_timeout=30, **times)
    with steps.meanwhile(after_looks(server, "DescribeEndpoint", tmp_path / "deploy")):
        run = airflow.run(dag)
    assert run.state == "success", run.errors
    steps.clean_up(server, run.xcom("deploy")["endpoint_name"])

    with airflow.dag() as dag:
        waiting = {"WAIT_FOR": str(tmp_path / "teardown")}
        deploy = steps.deploy(package=package, model_data=data, environment=waiting, wait_for_completion=False)
        deploy >> TeardownOperator(task_id="teardown", wait_timeout=30, **times)
    with steps.meanwhile(after_looks(server, "DescribeEndpoint", tmp_path / "teardown")):
        run = airflow.run(dag)
    assert run.state == "success", run.errors


def test_the_check_interval_of_a_sensor_is_the_time_between_two_looks(
    airflow: Runner, server: LocalSageMaker, tmp_path: Path
) -> None:
    name = steps.submit(server, wait_for=tmp_path / "flag")
    with airflow.dag() as dag:
        TrainingJobSensor(task_id="sensor", training_job=name, timeout=30, check_interval=timedelta(seconds=0.02))
    with steps.meanwhile(after_looks(server, "DescribeTrainingJob", tmp_path / "flag")):
        assert airflow.run(dag).state == "success"
