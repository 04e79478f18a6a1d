"""The SageMaker Python SDK 2.257, unchanged and in an environment of its own, against the local SageMaker."""

from __future__ import annotations

import io
import json
import tarfile
from typing import Any
from urllib.parse import urlsplit

import pytest

from airflow_sm_git.local.pytest_plugin import LocalSageMaker
from tests.sdk.peer import run_under_sdk

# The first of them may have to install the SDK.
pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]
BUCKET = "bucket-of-the-sdk"
SCRIPTS = {
    "train.py": """
import argparse, json, os
parser = argparse.ArgumentParser()
parser.add_argument("--epochs", type=int)
parser.add_argument("--name")
parser.add_argument("--rate", type=float)
given = vars(parser.parse_args())
with open(os.path.join(os.environ["SM_CHANNEL_TRAINING"], "data.txt")) as file:
    given["data"] = file.read()
given["mode"] = os.environ["MODE"]
for epoch in range(given["epochs"]):
    print(f"epoch {epoch}: loss={1 / (epoch + 1)};", flush=True)
with open(os.path.join(os.environ["SM_MODEL_DIR"], "model.json"), "w") as file:
    json.dump(given, file)
""",
    "serve.py": """
import json, os
def model_fn(model_dir):
    with open(os.path.join(model_dir, "model.json")) as file:
        return json.load(file)
def input_fn(body, content_type):
    assert content_type == "application/json", content_type
    return json.loads(body)
def predict_fn(data, model):
    if data["asked"] == "too much":
        raise ValueError("that is too much")
    return {"model": model, "data": data}
def output_fn(prediction, accept):
    return json.dumps(prediction)
""",
    "double.py": """
import os
def model_fn(model_dir):
    assert os.path.exists(os.path.join(model_dir, "model.json"))
    return int(os.environ["FACTOR"])
def predict_fn(data, model):
    return data * model
""",
    "fail.py": "raise RuntimeError('no such luck')\n",
    "endless.py": "import time\ntime.sleep(600)\n",
}


@pytest.fixture(scope="module")
def done(local_sagemaker: LocalSageMaker, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """What came of ``local_program.py``."""
    home = tmp_path_factory.mktemp("sdk-user")
    (home / "src").mkdir()
    for name, text in SCRIPTS.items():
        (home / "src" / name).write_text(text)
    (home / "data.txt").write_text("some data")
    env = {name: value for name, value in local_sagemaker.env.items() if name.startswith("AWS_")}
    return run_under_sdk("local_program.py", {"bucket": BUCKET}, env=env, home=home)


def test_fit_waits_and_prints_the_scripts_log(done: Any) -> None:
    assert done["training"]["status"] == "Completed"
    assert "epoch 0: loss=1.0;" in done["training"]["printed"]
    assert "Completed - Training job completed" in done["training"]["printed"]
    assert "Billable seconds" in done["training"]["printed"]


def test_the_script_got_its_hyperparameters_data_and_environment(done: Any, local_sagemaker: LocalSageMaker) -> None:
    model = urlsplit(done["training"]["model_data"])
    assert model.netloc == BUCKET
    body = local_sagemaker.client("s3").get_object(Bucket=BUCKET, Key=model.path.lstrip("/"))["Body"].read()
    with tarfile.open(fileobj=io.BytesIO(body)) as tar:
        file = tar.extractfile("model.json")
        assert file
        said = json.load(file)
    assert said == {"epochs": 3, "name": "a b", "rate": 0.5, "data": "some data", "mode": "quick"}


def test_metrics_are_read_from_the_log(done: Any) -> None:
    assert done["training"]["metrics"]["loss"] == pytest.approx(1 / 3)


def test_an_estimator_attaches_to_a_job_that_is_over(done: Any) -> None:
    attached = done["training"]["attached"]
    assert attached["model_data"] == done["training"]["model_data"]
    assert {name: json.loads(attached["hyperparameters"][name]) for name in ("epochs", "name", "rate")} == {
        "epochs": 3,
        "name": "a b",
        "rate": 0.5,
    }


def test_a_deployed_estimator_answers_with_another_script_of_the_directory(done: Any) -> None:
    answer = done["estimator"]["answer"]
    assert answer["data"] == {"asked": 1}
    assert answer["model"]["name"] == "a b"


def test_a_handler_that_raises_is_a_model_error(done: Any) -> None:
    assert "that is too much" in done["estimator"]["refused"]


@pytest.mark.parametrize("kind", ["PyTorchModel", "SKLearnModel"])
def test_a_model_object_serves_numpy_and_is_updated(done: Any, kind: str) -> None:
    """PyTorch's code is repacked into the model, scikit-learn's lies in S3."""
    assert done[kind] == {"answer": [[2.0, 4.0]], "after update": [6.0], "changed": True, "instances": 2}


def test_fit_raises_the_failures_reason(done: Any) -> None:
    assert done["failed"]["status"] == "Failed"
    assert "RuntimeError: no such luck" in done["failed"]["message"]


def test_a_stopped_job_is_stopped(done: Any) -> None:
    assert done["stopped"] == "Stopped"


def test_delete_leaves_nothing(done: Any, local_sagemaker: LocalSageMaker) -> None:
    assert done["estimator"]["endpoint"]
    client = local_sagemaker.client("sagemaker")
    prefix = "pytorch-20"  # the SDK names what it makes after the image, and the time
    assert client.list_endpoints(NameContains=prefix)["Endpoints"] == []
    assert client.list_endpoint_configs(NameContains=prefix)["EndpointConfigs"] == []
    assert client.list_models(NameContains=prefix)["Models"] == []
    assert client.list_training_jobs(NameContains=prefix)["TrainingJobSummaries"]
