from __future__ import annotations

from dataclasses import fields, replace
from typing import Any

import pytest

from airflow_sm_git.core.deployment import (
    DeployRequests,
    DeploySpec,
    deploy_requests,
    program,
)
from airflow_sm_git.core.errors import BadParameter
from airflow_sm_git.core.records import Package
from tests.core.specs import IMAGE, PACKAGE, ROLE, TAGS, assert_sendable, leaves

SPEC = DeploySpec(
    endpoint_name="shop",
    image_uri=IMAGE,
    role=ROLE,
    region="us-east-1",
    model_data="s3://bucket/model.tar.gz",
    package=PACKAGE,
)


def requests(spec: DeploySpec) -> DeployRequests:
    made = deploy_requests(spec, TAGS)
    assert_sendable("CreateModel", made.model)
    assert_sendable("CreateEndpointConfig", made.endpoint_config)
    assert_sendable("CreateEndpoint", made.endpoint)
    assert_sendable("UpdateEndpoint", made.update)
    return made


def all_leaves(made: DeployRequests) -> dict[str, Any]:
    parts = {
        "model": made.model,
        "config": made.endpoint_config,
        "endpoint": made.endpoint,
        "update": made.update,
    }
    return leaves(parts)


def test_the_smallest_requests_say_no_more_than_they_must() -> None:
    made = requests(SPEC)
    model_name, config_name = made.model["ModelName"], made.endpoint_config["EndpointConfigName"]
    assert made.model == {
        "ModelName": model_name,
        "PrimaryContainer": {
            "Image": IMAGE,
            "ModelDataUrl": "s3://bucket/model.tar.gz",
            "Environment": {
                "SAGEMAKER_PROGRAM": "train.py",
                "SAGEMAKER_SUBMIT_DIRECTORY": "/opt/ml/model/code",
                "SAGEMAKER_CONTAINER_LOG_LEVEL": "20",
                "SAGEMAKER_REGION": "us-east-1",
                "SM_GIT_COMMIT": "a" * 40,
                "SM_GIT_REPO": "https://example.com/it.git",
                "SM_GIT_TREE": PACKAGE["tree"],
                "SM_GIT_DIGEST": PACKAGE["digest"],
                "SM_GIT_PACKAGE": PACKAGE["s3_uri"],
            },
        },
        "ExecutionRoleArn": ROLE,
        "Tags": TAGS,
    }
    assert made.endpoint_config == {
        "EndpointConfigName": config_name,
        "ProductionVariants": [
            {
                "VariantName": "AllTraffic",
                "ModelName": model_name,
                "InstanceType": "ml.m5.large",
                "InitialInstanceCount": 1,
                "InitialVariantWeight": 1.0,
            }
        ],
        "Tags": TAGS,
    }
    assert made.endpoint == {"EndpointName": "shop", "EndpointConfigName": config_name, "Tags": TAGS}
    # UpdateEndpoint takes no tags.
    assert made.update == {"EndpointName": "shop", "EndpointConfigName": config_name}


ENVIRONMENT = "model.PrimaryContainer.Environment"
VARIANT = "config.ProductionVariants.0"
# A distinctive value for every field, and where it must be found; a field that is missing here fails the test below.
PLACES: dict[str, tuple[Any, dict[str, Any]]] = {
    "endpoint_name": ("seven", {"endpoint.EndpointName": "seven", "update.EndpointName": "seven"}),
    "image_uri": ("image:7", {"model.PrimaryContainer.Image": "image:7"}),
    "role": (f"{ROLE}7", {"model.ExecutionRoleArn": f"{ROLE}7"}),
    "region": ("eu-west-7", {f"{ENVIRONMENT}.SAGEMAKER_REGION": "eu-west-7"}),
    "model_data": ("s3://bucket/7", {"model.PrimaryContainer.ModelDataUrl": "s3://bucket/7"}),
    "package": ({**PACKAGE, "entry_point": "serve.py"}, {f"{ENVIRONMENT}.SAGEMAKER_PROGRAM": "serve.py"}),
    "entry_point": ("other.py", {f"{ENVIRONMENT}.SAGEMAKER_PROGRAM": "other.py"}),
    "hosting": ("s3", {f"{ENVIRONMENT}.SAGEMAKER_SUBMIT_DIRECTORY": PACKAGE["s3_uri"]}),
    "instance_type": ("ml.c7.large", {f"{VARIANT}.InstanceType": "ml.c7.large"}),
    "initial_instance_count": (7, {f"{VARIANT}.InitialInstanceCount": 7}),
    "initial_weight": (0.7, {f"{VARIANT}.InitialVariantWeight": 0.7}),
    "variant_name": ("seven", {f"{VARIANT}.VariantName": "seven"}),
    "volume_size": (77, {f"{VARIANT}.VolumeSizeInGB": 77}),
    "volume_kms_key": ("vkey", {"config.KmsKeyId": "vkey"}),
    "model_data_download_timeout": (77, {f"{VARIANT}.ModelDataDownloadTimeoutInSeconds": 77}),
    "container_startup_health_check_timeout": (
        77,
        {f"{VARIANT}.ContainerStartupHealthCheckTimeoutInSeconds": 77},
    ),
    "environment": ({"SEVEN": 7}, {f"{ENVIRONMENT}.SEVEN": "7"}),
    "container_log_level": (10, {f"{ENVIRONMENT}.SAGEMAKER_CONTAINER_LOG_LEVEL": "10"}),
    "model_server_workers": (7, {f"{ENVIRONMENT}.SAGEMAKER_MODEL_SERVER_WORKERS": "7"}),
    "enable_network_isolation": (True, {"model.EnableNetworkIsolation": True}),
    "subnets": (["subnet-7"], {"model.VpcConfig.Subnets.0": "subnet-7"}),
    "security_group_ids": (["sg-7"], {"model.VpcConfig.SecurityGroupIds.0": "sg-7"}),
    "variants": (
        [replace(SPEC, variant_name="seven", model_data="s3://bucket/7", initial_weight=0.7)],
        {f"{VARIANT}.VariantName": "seven", f"{VARIANT}.InitialVariantWeight": 0.7},
    ),
    "model_version": ('"seven"', {}),  # enters the names alone
    "deployment_config": (
        {"AutoRollbackConfiguration": {"Alarms": [{"AlarmName": "seven"}]}},
        {"update.DeploymentConfig.AutoRollbackConfiguration.Alarms.0.AlarmName": "seven"},
    ),
    "config_overrides": (
        {
            "CreateModel": {"InferenceExecutionConfig": {"Mode": "Serial"}},
            "CreateEndpointConfig": {"AsyncInferenceConfig": {"OutputConfig": {"S3OutputPath": "s3://bucket/a"}}},
            "CreateEndpoint": {"DeploymentConfig": {"AutoRollbackConfiguration": {"Alarms": [{"AlarmName": "c"}]}}},
            "UpdateEndpoint": {"RetainAllVariantProperties": True},
        },
        {
            "model.InferenceExecutionConfig.Mode": "Serial",
            "config.AsyncInferenceConfig.OutputConfig.S3OutputPath": "s3://bucket/a",
            "endpoint.DeploymentConfig.AutoRollbackConfiguration.Alarms.0.AlarmName": "c",
            "update.RetainAllVariantProperties": True,
        },
    ),
}
WITH: dict[str, dict[str, Any]] = {
    "subnets": {"security_group_ids": ["sg-7"]},
    "security_group_ids": {"subnets": ["subnet-7"]},
}


@pytest.mark.parametrize("name", [field.name for field in fields(DeploySpec)])
def test_every_field_reaches_a_request(name: str) -> None:
    value, places = PLACES[name]
    found = all_leaves(requests(replace(SPEC, **{**WITH.get(name, {}), name: value})))
    assert {place: found.get(place) for place in places} == places


MODEL_FIELDS = {
    "image_uri",
    "role",
    "region",
    "model_data",
    "model_version",
    "package",
    "entry_point",
    "hosting",
    "environment",
    "container_log_level",
    "model_server_workers",
    "enable_network_isolation",
    "subnets",
    "security_group_ids",
    "variants",
    "config_overrides",
}


@pytest.mark.parametrize("name", [field.name for field in fields(DeploySpec)])
def test_other_content_has_another_name_so_that_what_stands_is_never_changed(name: str) -> None:
    value, _ = PLACES[name]
    before, after = requests(SPEC), requests(replace(SPEC, **{**WITH.get(name, {}), name: value}))
    if name == "deployment_config":  # it says how to get there, not what is there
        assert before.endpoint_config == after.endpoint_config
        return
    assert before.endpoint_config["EndpointConfigName"] != after.endpoint_config["EndpointConfigName"]
    model_differs = before.model["ModelName"] != after.model["ModelName"]
    assert model_differs == (name in MODEL_FIELDS or name == "endpoint_name")


def test_another_version_of_the_model_data_has_another_name_and_the_same_request() -> None:
    plain, one, two = (requests(replace(SPEC, model_version=version)) for version in (None, '"1"', '"2"'))
    assert len({made.model["ModelName"] for made in (plain, one, two)}) == 3
    assert len({made.endpoint_config["EndpointConfigName"] for made in (plain, one, two)}) == 3
    tag = {"Key": "sm-git:model-etag", "Value": "=221=22"}
    assert {**one.model, "ModelName": ""} == {**plain.model, "ModelName": "", "Tags": [*plain.model["Tags"], tag]}


def test_the_same_content_has_the_same_names_whoever_runs_it() -> None:
    one, two = deploy_requests(SPEC, TAGS), deploy_requests(SPEC, [{"Key": "sm-git:run", "Value": "other"}])
    assert one.model["ModelName"] == two.model["ModelName"]
    assert one.endpoint_config["EndpointConfigName"] == two.endpoint_config["EndpointConfigName"]


def test_a_users_tags_stay_before_ours() -> None:
    mine = [{"Key": "team", "Value": "a"}]
    made = requests(replace(SPEC, config_overrides={"CreateModel": {"Tags": mine}}))
    assert made.model["Tags"] == [*mine, *TAGS]


def test_a_model_that_brings_its_own_code_gets_none_of_ours() -> None:
    made = requests(replace(SPEC, package=None))
    assert made.model["PrimaryContainer"] == {"Image": IMAGE, "ModelDataUrl": "s3://bucket/model.tar.gz"}


def test_a_container_without_model_data_needs_none() -> None:
    assert "ModelDataUrl" not in requests(replace(SPEC, model_data=None)).model["PrimaryContainer"]


def test_the_program_is_the_specs_else_the_packages() -> None:
    assert program(SPEC) == "train.py"
    assert program(replace(SPEC, entry_point="serve.py")) == "serve.py"
    assert program(replace(SPEC, package=None)) is None


def test_a_users_environment_lies_over_ours() -> None:
    made = requests(replace(SPEC, environment={"SAGEMAKER_PROGRAM": "mine.py"}))
    assert made.model["PrimaryContainer"]["Environment"]["SAGEMAKER_PROGRAM"] == "mine.py"


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"image_uri": "an image"}, "image_uri='an image'"),
        ({"role": "admin"}, "role='admin'"),
        ({"instance_type": "local"}, "instance_type='local'"),
        ({"initial_instance_count": 0}, "initial_instance_count=0"),
        ({"initial_weight": -0.5}, "initial_weight=-0.5"),
        ({"variants": [SPEC, SPEC]}, "variants='AllTraffic': is the name of two variants"),
        ({"variants": [replace(SPEC, instance_type="local")]}, "instance_type='local'"),
        ({"hosting": "repak"}, "hosting='repak'.*'repack'"),
        ({"subnets": ["s"]}, "subnets=.'s'.*security_group_ids"),
        ({"security_group_ids": ["s"]}, "subnets=.*security_group_ids"),
        ({"environment": {"A": "x" * 1025}}, "environment='A': its value has 1025 characters, SageMaker takes 1024"),
        ({"config_overrides": {"CreateModle": {}}}, "config_overrides='CreateModle'.*'CreateModel'"),
        *(
            (
                {"config_overrides": {"CreateEndpointConfig": {"ProductionVariants": variants}}},
                r"config_overrides\['CreateEndpointConfig'\]\['ProductionVariants'\]=.*is not a list of dicts",
            )
            for variants in ({"VariantName": "A"}, '[{"VariantName": "A"}]', ["A"], 1)
        ),
    ],
)
def test_what_sagemaker_would_refuse_is_named_before_anything_is_sent(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(BadParameter, match=f"^{message}"):
        deploy_requests(replace(SPEC, **changes), TAGS)


def test_overrides_of_a_production_variant_are_merged_into_it_and_further_ones_serve_the_same_model() -> None:
    variants = [{"InitialInstanceCount": 3}, {"VariantName": "Second", "InstanceType": "ml.m5.large"}]
    overrides = {"CreateEndpointConfig": {"ProductionVariants": variants}}
    [first, second] = deploy_requests(replace(SPEC, config_overrides=overrides), TAGS).endpoint_config[
        "ProductionVariants"
    ]
    assert (first["VariantName"], first["InitialInstanceCount"]) == ("AllTraffic", 3)
    assert (second["VariantName"], second["ModelName"]) == ("Second", first["ModelName"])


def test_variants_of_the_same_content_share_a_model_and_others_have_their_own_with_their_own_tags() -> None:
    other: Package = {**PACKAGE, "commit": "f" * 40}
    names = {"one": SPEC, "same": replace(SPEC, initial_weight=3.0), "other": replace(SPEC, package=other)}
    variants = [replace(spec, variant_name=name) for name, spec in names.items()]

    def tags(package: Package | None) -> list[dict[str, str]]:
        return [{"Key": "commit", "Value": package["commit"] if package else ""}]

    made = deploy_requests(replace(SPEC, variants=variants), TAGS, tags)
    live = {each["VariantName"]: each for each in made.endpoint_config["ProductionVariants"]}
    assert [model["ModelName"] for model in made.models] == [live["one"]["ModelName"], live["other"]["ModelName"]]
    assert live["same"]["ModelName"] == live["one"]["ModelName"]
    assert [each["InitialVariantWeight"] for each in live.values()] == [1.0, 3.0, 1.0]
    assert [model["Tags"][0]["Value"][0] for model in made.models] == ["a", "f"]
    assert made.endpoint_config["Tags"] == made.endpoint["Tags"] == TAGS
    for model in made.models:
        assert_sendable("CreateModel", model)


def test_a_policy_goes_with_the_update_and_not_with_the_first_deployment() -> None:
    policy = {
        "BlueGreenUpdatePolicy": {"TrafficRoutingConfiguration": {"Type": "ALL_AT_ONCE", "WaitIntervalInSeconds": 0}}
    }
    made = requests(replace(SPEC, deployment_config=policy))
    assert made.update["DeploymentConfig"] == policy
    assert "DeploymentConfig" not in made.endpoint


@pytest.mark.parametrize("action", ["CreateModel", "CreateEndpointConfig", "CreateEndpoint", "UpdateEndpoint"])
def test_no_override_can_change_a_name(action: str) -> None:
    for name in ("ModelName", "EndpointConfigName", "EndpointName"):
        with pytest.raises(BadParameter, match=name):
            deploy_requests(replace(SPEC, config_overrides={action: {name: "mine"}}), TAGS)
