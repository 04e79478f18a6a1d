"""What InvokeEndpoint refuses for its headers alone."""

from __future__ import annotations

import pytest
from botocore.exceptions import ClientError
from botocore.loaders import Loader

from airflow_sm_git.local.errors import ApiError
from airflow_sm_git.local.handlers import HEADER_LIMIT
from airflow_sm_git.local.invocation_headers import check
from airflow_sm_git.local.pytest_plugin import LocalSageMaker

PREFIX = "x-amzn-sagemaker-"


@pytest.mark.parametrize(
    ("header", "value", "said"),
    [
        (
            "custom-attributes",
            "a" * 1025,
            "'customAttributes' failed to satisfy constraint: Member must have length le",
        ),
        ("custom-attributes", "\u2603", "'customAttributes' failed to satisfy constraint: Member must satisfy regular"),
        ("inference-id", "a" * 65, "'inferenceId' failed to satisfy constraint: Member must have length less than or"),
        ("inference-id", "", "'inferenceId' failed to satisfy constraint: Member must have length greater than or"),
        ("inference-id", " a", "'inferenceId' failed to satisfy constraint: Member must satisfy regular expression"),
        ("inference-id", "a\tb", "'inferenceId' failed to satisfy constraint: Member must satisfy regular expression"),
        ("target-variant", "-a", "Value '-a' at 'targetVariant' failed to satisfy constraint: Member must satisfy"),
        ("target-variant", "a" * 64, "'targetVariant' failed to satisfy constraint: Member must have length less than"),
    ],
)
def test_a_header_that_breaks_its_shape_is_named(header: str, value: str, said: str) -> None:
    with pytest.raises(ApiError) as caught:
        check("endpoint", {f"{PREFIX}{header}": value})
    assert (caught.value.code, caught.value.status) == ("ValidationError", 400)
    assert caught.value.message.startswith(f"{2 if not value else 1} validation error")
    assert said in caught.value.message


def test_every_fault_is_told_and_nothing_sensitive_is_quoted() -> None:
    with pytest.raises(ApiError) as caught:
        check(
            "end_point", {f"{PREFIX}custom-attributes": "secret\n" * 200, "accept": "\xe9", "content-type": "a" * 1025}
        )
    assert caught.value.message.startswith("4 validation errors detected: Value 'end_point' at 'endpointName'")
    assert "secret" not in caught.value.message


def test_headers_at_their_limits_pass() -> None:
    check("a" * 63, {f"{PREFIX}custom-attributes": "a\t~" * 341, f"{PREFIX}inference-id": "a b" + "~" * 61})


def test_the_server_refuses_before_it_looks_for_the_endpoint(local_sagemaker: LocalSageMaker) -> None:
    runtime = local_sagemaker.client("sagemaker-runtime")
    with pytest.raises(ClientError) as caught:
        runtime.invoke_endpoint(EndpointName="no-such", Body=b"", CustomAttributes="a" * 1025)
    error = caught.value.response["Error"]
    assert (error["Code"], "customAttributes" in error["Message"]) == ("ValidationError", True)


def test_an_answer_may_be_as_long_as_the_model_of_the_service_says() -> None:
    shapes = Loader().load_service_model("sagemaker-runtime", "service-2")["shapes"]
    assert shapes["CustomAttributesHeader"]["max"] == shapes["Header"]["max"] == HEADER_LIMIT
