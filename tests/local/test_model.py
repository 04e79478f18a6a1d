"""The service's checks, in the service's words."""

from __future__ import annotations

import re
from typing import Any

import pytest

from airflow_sm_git.local.control import ACTION_NAMES
from airflow_sm_git.local.errors import ApiError
from airflow_sm_git.local.model import ServiceModel, _compile


@pytest.fixture(scope="module")
def model() -> ServiceModel:
    return ServiceModel("sagemaker", ACTION_NAMES)


def training_job(**changes: Any) -> dict[str, Any]:
    body: dict[str, Any] = {
        "TrainingJobName": "job-1",
        "AlgorithmSpecification": {"TrainingImage": "image", "TrainingInputMode": "File"},
        "RoleArn": "arn:aws:iam::000000000000:role/sm-git-local",
        "OutputDataConfig": {"S3OutputPath": "s3://bucket/out"},
        "ResourceConfig": {"InstanceType": "ml.m5.large", "InstanceCount": 1, "VolumeSizeInGB": 10},
        "StoppingCondition": {"MaxRuntimeInSeconds": 60},
    }
    return {name: value for name, value in {**body, **changes}.items() if value is not ...}


def refusal(model: ServiceModel, body: dict[str, Any], action: str = "CreateTrainingJob") -> tuple[str, str]:
    with pytest.raises(ApiError) as caught:
        model.validate(action, body)
    return caught.value.code, caught.value.message


def test_a_right_request_comes_back_as_it_was(model: ServiceModel) -> None:
    assert model.validate("CreateTrainingJob", training_job()) == training_job()


def test_members_that_are_null_or_unknown_are_dropped(model: ServiceModel) -> None:
    assert model.validate("CreateTrainingJob", training_job(Environment=None, Novelty=1)) == training_job()


def test_a_missing_member_must_not_be_null(model: ServiceModel) -> None:
    assert refusal(model, training_job(RoleArn=...)) == (
        "ValidationException",
        "1 validation error detected: Value null at 'roleArn' failed to satisfy constraint: Member must not be null",
    )


def test_an_overlong_name_and_a_bad_one_are_refused_together_with_the_rest(model: ServiceModel) -> None:
    name = "-" + "x" * 63
    code, message = refusal(model, training_job(TrainingJobName=name, RoleArn="nobody"))
    assert code == "ValidationException"
    assert message.startswith("4 validation errors detected: ")
    assert (
        f"Value '{name}' at 'trainingJobName' failed to satisfy constraint: "
        "Member must have length less than or equal to 63; " in message
    )
    assert "Member must satisfy regular expression pattern: [a-zA-Z0-9](-*[a-zA-Z0-9]){0,62}; " in message
    assert "Value 'nobody' at 'roleArn' failed to satisfy constraint: Member must have length" in message


def test_an_unknown_enum_value_names_its_place_and_the_known_ones(model: ServiceModel) -> None:
    body = {
        "EndpointConfigName": "c",
        "ProductionVariants": [{"VariantName": "AllTraffic", "ModelName": "m", "InstanceType": "local"}],
    }
    _, message = refusal(model, body, "CreateEndpointConfig")
    assert message.startswith(
        "1 validation error detected: Value 'local' at 'productionVariants.1.member.instanceType' "
        "failed to satisfy constraint: Member must satisfy enum value set: ["
    )
    assert "ml.m5.large" in message


def test_numbers_are_held_to_their_range(model: ServiceModel) -> None:
    _, message = refusal(model, training_job(StoppingCondition={"MaxRuntimeInSeconds": 0}))
    assert message == (
        "1 validation error detected: Value '0' at 'stoppingCondition.maxRuntimeInSeconds' failed to satisfy "
        "constraint: Member must have value greater than or equal to 1"
    )


def test_a_map_at_fault_is_answered_with_all_its_constraints(model: ServiceModel) -> None:
    _, message = refusal(model, training_job(Environment={"A": "x" * 600}))
    assert "at 'environment' failed to satisfy constraint: Map value must satisfy constraint: [Member must" in message
    _, message = refusal(model, training_job(Environment={"not-a-name": "x"}))
    assert "Value '{not-a-name=x}' at 'environment' failed to satisfy constraint: Map keys must satisfy" in message


def test_lists_are_held_to_their_length(model: ServiceModel) -> None:
    tags = [{"Key": f"k{n}", "Value": ""} for n in range(51)]
    _, message = refusal(model, training_job(Tags=tags))
    assert message.endswith("at 'tags' failed to satisfy constraint: Member must have length less than or equal to 50")


@pytest.mark.parametrize(
    ("change", "detail"),
    [
        ({"TrainingJobName": 7}, "NUMBER_VALUE can not be converted to a String"),
        ({"EnableNetworkIsolation": "yes"}, "STRING_VALUE can not be converted to a Boolean"),
        ({"HyperParameters": {"epochs": 3}}, "NUMBER_VALUE can not be converted to a String"),
        ({"RoleArn": ["x"]}, "Start of list found where not expected."),
        ({"Tags": {"a": "b"}}, "Start of structure or map found at 'tags' where a list was expected."),
        ({"ResourceConfig": True}, "TRUE_VALUE found at 'resourceConfig' where a structure was expected."),
        ({"StoppingCondition": {"MaxRuntimeInSeconds": 1.5}}, "NUMBER_VALUE can not be converted to an Integer"),
    ],
)
def test_a_value_of_the_wrong_type_cannot_be_read(model: ServiceModel, change: dict[str, Any], detail: str) -> None:
    assert refusal(model, training_job(**change)) == ("SerializationException", detail)


def test_a_name_with_a_line_break_at_its_end_is_refused(model: ServiceModel) -> None:
    assert refusal(model, training_job(TrainingJobName="job\n"))[0] == "ValidationException"


def test_tags_take_letters_and_spaces_of_every_script(model: ServiceModel) -> None:
    tags = [{"Key": "Größe 大", "Value": "дa\u2003_.:/=+-@٣"}]
    assert model.validate("CreateTrainingJob", training_job(Tags=tags))["Tags"] == tags
    assert refusal(model, training_job(Tags=[{"Key": "a;b", "Value": ""}]))[0] == "ValidationException"


def test_every_pattern_of_the_model_is_one_that_we_can_read(model: ServiceModel) -> None:
    for pattern in model.patterns():
        _compile(pattern)
        classes = re.findall(r"\\p\{(\w+)\}", pattern)
        assert set(classes) <= {"L", "Z", "N", "Alnum"}
        # What makes \w an exact stand-in for \p{L} and \p{N}.
        assert "L" not in classes or ("N" in classes and "_" in pattern)


def test_the_shapes_that_no_action_needs_are_dropped(model: ServiceModel) -> None:
    assert set(model.actions) == set(ACTION_NAMES)
    assert "AutoMLJobName" not in model._shapes
