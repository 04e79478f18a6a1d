"""Runs in the SageMaker SDK's environment: train and deploy each case, so that a recording server sees the requests.

A case's name is its access key id: the server reads from a request's signature to which case it belongs.
"""

import json
import sys

import boto3
import botocore.loaders
import botocore.session
import sagemaker
from sagemaker.estimator import Estimator
from sagemaker.inputs import ShuffleConfig, TrainingInput
from sagemaker.instance_group import InstanceGroup
from sagemaker.pytorch import PyTorch
from sagemaker.sklearn import SKLearn

ESTIMATORS = {"PyTorch": PyTorch, "SKLearn": SKLearn, "Estimator": Estimator}
LOADER = botocore.loaders.create_loader()  # shared: it would read botocore's large files again for each session


def session_of(name):
    """A session that signs as ``name``."""
    inner = botocore.session.Session()
    inner.register_component("data_loader", LOADER)
    keys = {"aws_access_key_id": name, "aws_secret_access_key": "x", "region_name": "us-east-1"}
    return sagemaker.Session(boto3.Session(botocore_session=inner, **keys), default_bucket="bucket")


def training_input(value):
    """A channel as the user writes it."""
    if isinstance(value, str):
        return value
    seed = value.pop("shuffle_config", None)
    return TrainingInput(**value, shuffle_config=None if seed is None else ShuffleConfig(seed))


def run(case):
    """Train; deploy, if the case says so."""
    arguments = case["estimator"]
    if "instance_groups" in arguments:
        arguments["instance_groups"] = [InstanceGroup(*group) for group in arguments["instance_groups"]]
    estimator = ESTIMATORS[case["class"]](sagemaker_session=session_of(case["name"]), **arguments)
    inputs = case["inputs"]
    if isinstance(inputs, dict):
        inputs = {name: training_input(value) for name, value in inputs.items()}
    estimator.fit(inputs, wait=False)
    if case["deploy"] is not None:
        estimator.deploy(wait=False, **case["deploy"])


cases = json.load(sys.stdin)
for each in cases:
    run(each)
with open(sys.argv[1], "w") as file:
    json.dump(len(cases), file)
