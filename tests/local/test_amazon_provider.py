"""Airflow's Amazon provider, unchanged, against the local SageMaker: only the connection's ``endpoint_url`` is ours."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from airflow_sm_git.local.pytest_plugin import LocalSageMaker
from tests.local.sagemaker_requests import HANDLER, client, ended, model, settled, training_job, unique, until, variant

TRAIN = """
import os
print("loss=0.5")
open(os.environ["SM_MODEL_DIR"] + "/weights.txt", "w").write("trained")
os.mkdir(os.environ["SM_MODEL_DIR"] + "/code")
open(os.environ["SM_MODEL_DIR"] + "/code/inference.py", "w").write({handler!r})
"""
DAG = """
import json, os
from airflow.providers.amazon.aws.operators import sagemaker
from airflow.providers.amazon.aws.sensors import sagemaker as sensors
from airflow.sdk import DAG

given = json.loads({given!r})
artefact = "{{{{ ti.xcom_pull(task_ids='train')['Training']['ModelArtifacts']['S3ModelArtifacts'] }}}}"
given["model"]["PrimaryContainer"]["ModelDataUrl"] = artefact
name = given["endpoint"]["EndpointName"]
with DAG("amazon_provider", schedule=None) as dag:
    train = sagemaker.SageMakerTrainingOperator(
        task_id="train", config=given["training"], print_log=False, check_interval=1
    )
    trained = sensors.SageMakerTrainingSensor(
        task_id="trained", job_name=given["training"]["TrainingJobName"], poke_interval=1
    )
    model = sagemaker.SageMakerModelOperator(task_id="model", config=given["model"])
    config = sagemaker.SageMakerEndpointConfigOperator(task_id="config", config=given["config"])
    endpoint = sagemaker.SageMakerEndpointOperator(
        task_id="endpoint", config=given["endpoint"], wait_for_completion=True, check_interval=1
    )
    serving = sensors.SageMakerEndpointSensor(task_id="serving", endpoint_name=name, poke_interval=1)
    train >> trained >> model >> config >> endpoint >> serving
"""
RUN = """
from airflow.utils import db
db.initdb()
import amazon_provider
run = amazon_provider.dag.test()
print("STATES", {{ti.task_id: str(ti.state) for ti in run.get_task_instances()}})
"""


@pytest.fixture(scope="module", autouse=True)
def connection(local_sagemaker: LocalSageMaker) -> Any:
    """The connection ``aws_default``, as ``airflow-sm-git local env`` exports it."""
    with pytest.MonkeyPatch.context() as patch:
        for name, value in local_sagemaker.env.items():
            patch.setenv(name, value)
        yield


@pytest.fixture(scope="module")
def sagemaker(local_sagemaker: LocalSageMaker) -> Any:
    return client(local_sagemaker, "sagemaker")


def operators() -> Any:
    from airflow.providers.amazon.aws.operators import sagemaker

    return sagemaker


def sensors() -> Any:
    from airflow.providers.amazon.aws.sensors import sagemaker

    return sagemaker


def train(request: dict[str, Any], **arguments: Any) -> Any:
    """Run the provider's training operator; what it returns."""
    operator = operators().SageMakerTrainingOperator(
        task_id="train", config=request, **{"print_log": False, "check_interval": 1, **arguments}
    )
    return operator.execute({})


def test_the_training_operator_waits_for_the_job_and_returns_its_description(local_sagemaker: LocalSageMaker) -> None:
    request = training_job(local_sagemaker, TRAIN.format(handler=HANDLER))
    request["RoleArn"] = "sm-git-local"  # a name: the operator looks it up in IAM
    request["ResourceConfig"]["InstanceCount"] = "1"  # as Jinja leaves it: the operator makes it a number
    described = train(request)["Training"]
    assert described["TrainingJobStatus"] == "Completed"
    assert described["RoleArn"] == "arn:aws:iam::000000000000:role/sm-git-local"
    assert described["ModelArtifacts"]["S3ModelArtifacts"].endswith("/output/model.tar.gz")


def test_the_training_operator_tells_why_a_job_failed_and_what_a_channel_lacks(local_sagemaker: LocalSageMaker) -> None:
    from airflow.providers.common.compat.sdk import AirflowException

    with pytest.raises(AirflowException, match="ZeroDivisionError"):
        train(training_job(local_sagemaker, "1 / 0"))
    source = {"S3DataSource": {"S3DataType": "S3Prefix", "S3Uri": "s3://no-such-bucket/x"}}
    request = training_job(local_sagemaker, "pass", InputDataConfig=[{"ChannelName": "a", "DataSource": source}])
    with pytest.raises(AirflowException, match="no-such-bucket does not exist"):
        train(request)


def test_the_training_operator_finds_a_name_in_use_and_takes_another_or_fails(
    local_sagemaker: LocalSageMaker, sagemaker: Any
) -> None:
    from airflow.providers.common.compat.sdk import AirflowException

    request = training_job(local_sagemaker, "pass")
    sagemaker.create_training_job(**request)
    with pytest.raises(AirflowException, match="already exists"):
        train(json.loads(json.dumps(request)), action_if_job_exists="fail")
    name = train(json.loads(json.dumps(request)))["Training"]["TrainingJobName"]
    assert name.startswith(f"{request['TrainingJobName']}-")


def test_the_training_sensor_prints_the_jobs_log_and_sees_its_end(
    local_sagemaker: LocalSageMaker, sagemaker: Any, capfd: pytest.CaptureFixture[str]
) -> None:
    request = training_job(local_sagemaker, "print('a line of the script')")
    sagemaker.create_training_job(**request)
    name = request["TrainingJobName"]
    ended(local_sagemaker, name)
    sensor = sensors().SageMakerTrainingSensor(task_id="sense", job_name=name)
    assert sensor.poke({})
    assert "a line of the script" in "".join(capfd.readouterr())


def test_the_model_config_and_endpoint_operators_deploy_update_and_fail_as_on_aws(
    local_sagemaker: LocalSageMaker, sagemaker: Any
) -> None:
    from airflow.providers.common.compat.sdk import AirflowException
    from botocore.exceptions import WaiterError

    def deploy(weights: str, endpoint: str, **more: str) -> Any:
        request = model(local_sagemaker, weights, **more)
        operators().SageMakerModelOperator(task_id="m", config=request).execute({})
        config = {"EndpointConfigName": unique("config"), "ProductionVariants": [variant(request["ModelName"])]}
        operators().SageMakerEndpointConfigOperator(task_id="c", config=config).execute({})
        wanted = {"EndpointName": endpoint, "EndpointConfigName": config["EndpointConfigName"]}
        operator = operators().SageMakerEndpointOperator(task_id="e", config=wanted, check_interval=1)
        return operator.execute({})["Endpoint"]

    name = unique("endpoint")
    assert deploy("one", name)["EndpointStatus"] == "InService"
    assert sensors().SageMakerEndpointSensor(task_id="s", endpoint_name=name).poke({})
    deploy("two", name)  # it exists: the operator reads the refusal and updates it instead
    settled(local_sagemaker, name)
    runtime = client(local_sagemaker, "sagemaker-runtime")
    assert json.loads(runtime.invoke_endpoint(EndpointName=name, Body=b"{}")["Body"].read())["model"] == "two"

    broken = unique("endpoint")
    with pytest.raises(WaiterError):
        deploy("three", broken, handler="raise RuntimeError")
    with pytest.raises(AirflowException, match="did not pass the ping health check"):
        sensors().SageMakerEndpointSensor(task_id="s", endpoint_name=broken).poke({})
    for endpoint in (name, broken):
        sagemaker.delete_endpoint(EndpointName=endpoint)
        sagemaker.get_waiter("endpoint_deleted").wait(EndpointName=endpoint, WaiterConfig={"Delay": 1})


def test_the_hook_lists_and_the_model_is_deleted(local_sagemaker: LocalSageMaker, sagemaker: Any) -> None:
    from airflow.providers.amazon.aws.hooks.sagemaker import SageMakerHook

    names = [unique("listed") for _ in range(2)]
    for name in names:
        sagemaker.create_training_job(**training_job(local_sagemaker, "pass", name=name))
        ended(local_sagemaker, name)
    found = SageMakerHook().list_training_jobs(name_contains=names[0])
    assert [job["TrainingJobName"] for job in found] == names[:1]
    request = model(local_sagemaker)
    sagemaker.create_model(**request)
    config = {"ModelName": request["ModelName"]}
    operators().SageMakerDeleteModelOperator(task_id="d", config=config).execute({})
    assert sagemaker.list_models(NameContains=request["ModelName"])["Models"] == []


@pytest.mark.slow
def test_a_dag_of_the_providers_operators_and_sensors_runs_from_training_to_an_endpoint(
    local_sagemaker: LocalSageMaker, sagemaker: Any, tmp_path: Path
) -> None:
    trained, config_name, name = unique("model"), unique("config"), unique("endpoint")
    given = {
        "training": training_job(local_sagemaker, TRAIN.format(handler=HANDLER)),
        "model": {**model(local_sagemaker), "ModelName": trained},
        "config": {"EndpointConfigName": config_name, "ProductionVariants": [variant(trained)]},
        "endpoint": {"EndpointName": name, "EndpointConfigName": config_name},
    }
    dags = tmp_path / "dags"
    dags.mkdir()
    (dags / "amazon_provider.py").write_text(DAG.format(given=json.dumps(given)))
    environment = {
        **os.environ,
        **local_sagemaker.env,
        "AIRFLOW_HOME": str(tmp_path),
        "AIRFLOW__CORE__DAGS_FOLDER": str(dags),
        "PYTHONPATH": str(dags),
    }
    run = subprocess.run([sys.executable, "-c", RUN.format()], env=environment, capture_output=True, text=True)
    assert run.returncode == 0, run.stdout[-5000:] + run.stderr[-5000:]
    states = run.stdout.rpartition("STATES ")[2]
    assert states.count("success") == 6, run.stdout[-5000:] + run.stderr[-5000:]
    answer = client(local_sagemaker, "sagemaker-runtime").invoke_endpoint(EndpointName=name, Body=b"{}")
    assert json.loads(answer["Body"].read())["model"] == "trained"
    sagemaker.delete_endpoint(EndpointName=name)
    until(lambda: sagemaker.list_endpoints(NameContains=name)["Endpoints"], lambda left: not left)
