"""Models and endpoint configurations, seen through boto3."""

from __future__ import annotations

from typing import Any

import pytest
from botocore.exceptions import ClientError

from airflow_sm_git.local.pytest_plugin import LocalSageMaker
from tests.local.sagemaker_requests import BUCKET, IMAGE, ROLE, client, model, unique, variant

ARN = "arn:aws:sagemaker:us-east-1:000000000000"


@pytest.fixture(scope="module")
def sagemaker(local_sagemaker: LocalSageMaker) -> Any:
    return client(local_sagemaker, "sagemaker")


def refused(call: Any, **request: Any) -> tuple[str, str]:
    with pytest.raises(ClientError) as caught:
        call(**request)
    error = caught.value.response["Error"]
    return error["Code"], error["Message"]


def test_a_model_is_described_as_it_was_created_and_gone_when_deleted(
    local_sagemaker: LocalSageMaker, sagemaker: Any
) -> None:
    request = model(local_sagemaker, Tags=[{"Key": "a", "Value": "1"}])
    name = request["ModelName"]
    arn = f"{ARN}:model/{name}"
    assert sagemaker.create_model(**request)["ModelArn"] == arn
    described = sagemaker.describe_model(ModelName=name)
    assert described["PrimaryContainer"] == request["PrimaryContainer"]
    assert described["ExecutionRoleArn"] == ROLE
    assert described["EnableNetworkIsolation"] is False
    assert "Tags" not in described
    assert sagemaker.list_tags(ResourceArn=arn)["Tags"] == [{"Key": "a", "Value": "1"}]
    sagemaker.delete_model(ModelName=name)
    missing = ("ValidationException", f'Could not find model "{arn}".')
    assert refused(sagemaker.describe_model, ModelName=name) == missing
    assert refused(sagemaker.delete_model, ModelName=name) == missing


def test_an_existing_model_is_not_created_again(local_sagemaker: LocalSageMaker, sagemaker: Any) -> None:
    request = model(local_sagemaker)
    sagemaker.create_model(**request)
    name = request["ModelName"]
    taken = ("ValidationException", f'Cannot create already existing model "{ARN}:model/{name}".')
    assert refused(sagemaker.create_model, **request) == taken


def test_a_model_whose_data_is_not_in_s3_is_refused(local_sagemaker: LocalSageMaker, sagemaker: Any) -> None:
    request = model(local_sagemaker)
    for uri in (f"s3://{BUCKET}/none/model.tar.gz", "s3://no-such-bucket/model.tar.gz"):
        request["PrimaryContainer"]["ModelDataUrl"] = uri
        wanted = ("ValidationException", f"Could not find model data at {uri}.")
        assert refused(sagemaker.create_model, **request) == wanted


@pytest.mark.parametrize(
    ("request_", "words"),
    [
        ({}, "either a primary container or a list of containers"),
        ({"PrimaryContainer": {"Image": IMAGE}, "Containers": [{"Image": IMAGE}]}, "either a primary container"),
        ({"PrimaryContainer": {"Mode": "SingleModel"}}, "Specify one of either Image and Model Data URL"),
        ({"PrimaryContainer": {"Image": IMAGE, "Environment": {"A": "x" * 1025}}}, "Map value must satisfy"),
        ({"PrimaryContainer": {"Image": IMAGE}, "ExecutionRoleArn": ROLE.replace("0" * 12, "1" * 12)}, "Cross-account"),
    ],
)
def test_a_model_that_sagemaker_would_not_take_is_refused(sagemaker: Any, request_: dict[str, Any], words: str) -> None:
    code, message = refused(sagemaker.create_model, ModelName=unique("model"), **request_)
    assert code == "ValidationException"
    assert words in message


def test_a_configuration_is_described_with_its_defaults_and_outlives_its_model(
    local_sagemaker: LocalSageMaker, sagemaker: Any
) -> None:
    request = model(local_sagemaker)
    sagemaker.create_model(**request)
    name = unique("config")
    arn = f"{ARN}:endpoint-config/{name}"
    wanted = variant(request["ModelName"])
    assert (
        sagemaker.create_endpoint_config(EndpointConfigName=name, ProductionVariants=[wanted], KmsKeyId="key")[
            "EndpointConfigArn"
        ]
        == arn
    )
    taken = ("ValidationException", f'Cannot create already existing endpoint configuration "{arn}".')
    again = {"EndpointConfigName": name, "ProductionVariants": [wanted]}
    assert refused(sagemaker.create_endpoint_config, **again) == taken
    sagemaker.delete_model(ModelName=request["ModelName"])
    described = sagemaker.describe_endpoint_config(EndpointConfigName=name)
    assert described["ProductionVariants"] == [{**wanted, "InitialVariantWeight": 1.0}]
    assert described["KmsKeyId"] == "key"
    sagemaker.delete_endpoint_config(EndpointConfigName=name)
    missing = ("ValidationException", f'Could not find endpoint configuration "{arn}".')
    assert refused(sagemaker.describe_endpoint_config, EndpointConfigName=name) == missing
    assert refused(sagemaker.delete_endpoint_config, EndpointConfigName=name) == missing


def test_a_configuration_of_a_missing_model_or_of_two_equal_variants_is_refused(
    local_sagemaker: LocalSageMaker, sagemaker: Any
) -> None:
    request = model(local_sagemaker)
    sagemaker.create_model(**request)
    known = variant(request["ModelName"])
    create = sagemaker.create_endpoint_config
    assert refused(create, EndpointConfigName="c", ProductionVariants=[variant("nobody")]) == (
        "ValidationException",
        f'Could not find model "{ARN}:model/nobody".',
    )
    assert (
        "names must be unique: AllTraffic"
        in refused(create, EndpointConfigName="c", ProductionVariants=[known, known])[1]
    )
    assert (
        "asynchronous endpoints"
        in refused(
            create,
            EndpointConfigName="c",
            ProductionVariants=[known],
            AsyncInferenceConfig={"OutputConfig": {"S3OutputPath": f"s3://{BUCKET}/async"}},
        )[1]
    )
    del known["InstanceType"]
    assert "must have either InstanceType" in refused(create, EndpointConfigName="c", ProductionVariants=[known])[1]
