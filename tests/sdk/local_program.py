"""Runs in the SageMaker SDK's environment: what its users do, against whatever the environment's variables lead to."""

import contextlib
import io
import json
import sys

import numpy
import sagemaker
from sagemaker.deserializers import JSONDeserializer
from sagemaker.exceptions import UnexpectedStatusException
from sagemaker.pytorch import PyTorch, PyTorchModel
from sagemaker.serializers import JSONSerializer
from sagemaker.sklearn import SKLearnModel

ROLE = "arn:aws:iam::000000000000:role/service-role/train"
IMAGE = {"image_uri": "000000000000.dkr.ecr.us-east-1.amazonaws.com/pytorch:2.1", "role": ROLE}
MACHINE = {"instance_count": 1, "instance_type": "ml.m5.large"}
SERVER = {"initial_instance_count": 1, "instance_type": "ml.m5.large"}
PYTORCH = {"framework_version": "2.1", "py_version": "py310"}


def estimator(session, entry_point, **more):
    """An estimator of the source directory."""
    return PyTorch(
        entry_point=entry_point, source_dir="src", sagemaker_session=session, **IMAGE, **MACHINE, **PYTORCH, **more
    )


def train(session):
    """Upload data, train on it, wait, and show the log."""
    data = session.upload_data("data.txt", key_prefix="data")
    trained = estimator(
        session,
        "train.py",
        hyperparameters={"epochs": 3, "name": "a b", "rate": 0.5},
        metric_definitions=[{"Name": "loss", "Regex": "loss=(.*?);"}],
        environment={"MODE": "quick"},
    )
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        trained.fit({"training": data.rpartition("/")[0]}, wait=True, logs="All")
    job = session.describe_training_job(trained.latest_training_job.name)
    metrics = {item["MetricName"]: item["Value"] for item in job["FinalMetricDataList"]}
    attached = PyTorch.attach(trained.latest_training_job.name, sagemaker_session=session)
    return trained, {
        "data": data,
        "printed": printed.getvalue(),
        "status": job["TrainingJobStatus"],
        "metrics": metrics,
        "model_data": trained.model_data,
        "attached": {"model_data": attached.model_data, "hyperparameters": attached.hyperparameters()},
    }


def serve(trained):
    """Deploy with another script of the directory, wait as the SDK does, ask, and take down."""
    predictor = trained.deploy(
        entry_point="serve.py", serializer=JSONSerializer(), deserializer=JSONDeserializer(), **SERVER
    )
    answer = predictor.predict({"asked": 1})
    try:
        predictor.predict({"asked": "too much"})
        refused = None
    except predictor.sagemaker_session.sagemaker_runtime_client.exceptions.ModelError as error:
        refused = str(error)
    name = predictor.endpoint_name
    predictor.delete_model()
    predictor.delete_endpoint()
    return {"answer": answer, "refused": refused, "endpoint": name}


def serve_model(session, model_data, kind, versions):
    """Deploy a model object, ask in NumPy's format with the toolkit's default handlers, change it, take it down."""
    model = kind(
        model_data=model_data,
        entry_point="double.py",
        source_dir="src",
        sagemaker_session=session,
        model_server_workers=1,
        env={"FACTOR": "2"},
        **IMAGE,
        **versions,
    )
    predictor = model.deploy(wait=False, **SERVER)
    session.wait_for_endpoint(predictor.endpoint_name, poll=1)
    answer = predictor.predict(numpy.array([[1.0, 2.0]])).tolist()
    before = session.sagemaker_client.describe_endpoint(EndpointName=predictor.endpoint_name)
    predictor.update_endpoint(initial_instance_count=2, instance_type="ml.m5.xlarge", wait=False)
    session.wait_for_endpoint(predictor.endpoint_name, poll=1)
    after = session.sagemaker_client.describe_endpoint(EndpointName=predictor.endpoint_name)
    again = predictor.predict(numpy.array([3.0])).tolist()
    predictor.delete_model()
    predictor.delete_endpoint()
    session.sagemaker_client.delete_endpoint_config(EndpointConfigName=before["EndpointConfigName"])
    return {
        "answer": answer,
        "after update": again,
        "changed": before["EndpointConfigName"] != after["EndpointConfigName"],
        "instances": after["ProductionVariants"][0]["CurrentInstanceCount"],
    }


def fail(session):
    """Train a script that fails."""
    failing = estimator(session, "fail.py")
    with contextlib.redirect_stdout(io.StringIO()):
        try:
            failing.fit(wait=True, logs="All")
        except UnexpectedStatusException as error:
            return {"status": error.actual_status, "message": str(error)}
    return None


def stop(session):
    """Train a script that would go on, and stop it."""
    endless = estimator(session, "endless.py")
    endless.fit(wait=False)
    name = endless.latest_training_job.name
    session.stop_training_job(name)
    with contextlib.redirect_stdout(io.StringIO()):
        return session.wait_for_job(name, poll=1)["TrainingJobStatus"]


def main():
    """Do it all; write down what came of it."""
    # With a bucket of its own choice it would ask STS at a fixed host on the internet for the account.
    session = sagemaker.Session(default_bucket=json.load(sys.stdin)["bucket"])
    trained, training = train(session)
    result = {
        "training": training,
        "estimator": serve(trained),
        "PyTorchModel": serve_model(session, trained.model_data, PyTorchModel, PYTORCH),
        "SKLearnModel": serve_model(session, trained.model_data, SKLearnModel, {"framework_version": "1.2-1"}),
        "failed": fail(session),
        "stopped": stop(session),
    }
    with open(sys.argv[1], "w") as file:
        json.dump(result, file)


main()
