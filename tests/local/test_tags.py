"""Tags, seen through boto3."""

from __future__ import annotations

from typing import Any

import pytest
from botocore.exceptions import ClientError

from airflow_sm_git.local.pytest_plugin import LocalSageMaker
from tests.local.sagemaker_requests import client, model


@pytest.fixture(scope="module")
def sagemaker(local_sagemaker: LocalSageMaker) -> Any:
    return client(local_sagemaker, "sagemaker")


@pytest.fixture
def arn(local_sagemaker: LocalSageMaker, sagemaker: Any) -> str:
    created: str = sagemaker.create_model(**model(local_sagemaker, Tags=[{"Key": "a", "Value": "1"}]))["ModelArn"]
    return created


def tags(sagemaker: Any, arn: str) -> dict[str, str]:
    return {tag["Key"]: tag["Value"] for tag in sagemaker.list_tags(ResourceArn=arn)["Tags"]}


def refused(call: Any, **request: Any) -> str:
    with pytest.raises(ClientError) as caught:
        call(**request)
    assert caught.value.response["Error"]["Code"] == "ValidationException"
    message: str = caught.value.response["Error"]["Message"]
    return message


def test_added_tags_replace_those_of_their_key_and_leave_the_others(sagemaker: Any, arn: str) -> None:
    answer = sagemaker.add_tags(ResourceArn=arn, Tags=[{"Key": "a", "Value": "2"}, {"Key": "b", "Value": ""}])
    assert {tag["Key"]: tag["Value"] for tag in answer["Tags"]} == {"a": "2", "b": ""} == tags(sagemaker, arn)


def test_deleted_tags_are_gone_and_unknown_ones_are_no_error(sagemaker: Any, arn: str) -> None:
    sagemaker.add_tags(ResourceArn=arn, Tags=[{"Key": "b", "Value": "2"}])
    sagemaker.delete_tags(ResourceArn=arn, TagKeys=["a", "never-was"])
    assert tags(sagemaker, arn) == {"b": "2"}


def test_a_resource_has_fifty_tags_at_most_and_a_refused_add_changes_nothing(sagemaker: Any, arn: str) -> None:
    sagemaker.add_tags(ResourceArn=arn, Tags=[{"Key": f"k{n}", "Value": "x"} for n in range(49)])
    before = tags(sagemaker, arn)
    assert "at most 50 tags; 51 were requested" in refused(
        sagemaker.add_tags, ResourceArn=arn, Tags=[{"Key": "one-more", "Value": ""}]
    )
    assert tags(sagemaker, arn) == before
    assert len(before) == 50


def test_reserved_and_repeated_keys_are_refused(sagemaker: Any, arn: str) -> None:
    assert "aws: prefixed" in refused(sagemaker.add_tags, ResourceArn=arn, Tags=[{"Key": "AWS:x", "Value": ""}])
    twice = [{"Key": "b", "Value": "1"}, {"Key": "b", "Value": "2"}]
    assert "Duplicate tag key: b" in refused(sagemaker.add_tags, ResourceArn=arn, Tags=twice)


def test_tags_of_a_resource_that_is_not_there_are_refused_and_go_with_it(
    local_sagemaker: LocalSageMaker, sagemaker: Any, arn: str
) -> None:
    sagemaker.delete_model(ModelName=arn.rpartition("/")[2])
    for call, rest in (
        (sagemaker.list_tags, {}),
        (sagemaker.add_tags, {"Tags": [{"Key": "a", "Value": ""}]}),
        (sagemaker.delete_tags, {"TagKeys": ["a"]}),
    ):
        assert arn in refused(call, ResourceArn=arn, **rest)
    sagemaker.create_model(**{**model(local_sagemaker), "ModelName": arn.rpartition("/")[2]})
    assert tags(sagemaker, arn) == {}
