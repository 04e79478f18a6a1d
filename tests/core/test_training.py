from __future__ import annotations

import json
from dataclasses import fields, replace
from typing import Any

import pytest

from airflow_sm_git.core.errors import BadParameter
from airflow_sm_git.core.names import short_hash
from airflow_sm_git.core.training import TrainSpec, channel, request_identity, training_request
from tests.core.specs import IMAGE, PACKAGE, ROLE, TAGS, assert_sendable, leaves

SPEC = TrainSpec(package=PACKAGE, image_uri=IMAGE, role=ROLE, region="us-east-1", output_path="s3://bucket/out")


def request(spec: TrainSpec, name: str = "job-1") -> dict[str, Any]:
    made = training_request(spec, job_name=name, tags=TAGS)
    assert_sendable("CreateTrainingJob", made)
    return made


def identity(spec: TrainSpec, name: str = "job-1") -> str:
    return short_hash(request_identity(request(spec, name), spec.package))


def test_the_smallest_request_says_no_more_than_it_must() -> None:
    assert request(SPEC) == {
        "TrainingJobName": "job-1",
        "RoleArn": ROLE,
        "AlgorithmSpecification": {"TrainingImage": IMAGE, "TrainingInputMode": "File"},
        "HyperParameters": {
            "sagemaker_program": '"train.py"',
            "sagemaker_submit_directory": '"s3://bucket/sm-git/0123/sourcedir.tar.gz"',
            "sagemaker_container_log_level": "20",
            "sagemaker_job_name": '"job-1"',
            "sagemaker_region": '"us-east-1"',
        },
        "OutputDataConfig": {"S3OutputPath": "s3://bucket/out"},
        "ResourceConfig": {"InstanceType": "ml.m5.xlarge", "InstanceCount": 1, "VolumeSizeInGB": 30},
        "StoppingCondition": {"MaxRuntimeInSeconds": 86400},
        "Environment": {
            "SM_GIT_COMMIT": "a" * 40,
            "SM_GIT_REPO": "https://example.com/it.git",
            "SM_GIT_TREE": PACKAGE["tree"],
            "SM_GIT_DIGEST": PACKAGE["digest"],
            "SM_GIT_PACKAGE": PACKAGE["s3_uri"],
        },
        "Tags": TAGS,
    }


# A distinctive value for every field, and where it must be found; a field that is missing here fails the test below.
CHANNEL = channel("training", {"s3_data": "s3://bucket/data"})
PLACES: dict[str, tuple[Any, dict[str, Any]]] = {
    "package": (PACKAGE, {"HyperParameters.sagemaker_program": '"train.py"'}),
    "image_uri": ("image:7", {"AlgorithmSpecification.TrainingImage": "image:7"}),
    "role": (f"{ROLE}7", {"RoleArn": f"{ROLE}7"}),
    "region": ("eu-west-7", {"HyperParameters.sagemaker_region": '"eu-west-7"'}),
    "output_path": ("s3://bucket/7", {"OutputDataConfig.S3OutputPath": "s3://bucket/7"}),
    "instance_type": ("ml.c7.large", {"ResourceConfig.InstanceType": "ml.c7.large"}),
    "instance_count": (7, {"ResourceConfig.InstanceCount": 7}),
    "volume_size": (77, {"ResourceConfig.VolumeSizeInGB": 77}),
    "volume_kms_key": ("vkey", {"ResourceConfig.VolumeKmsKeyId": "vkey"}),
    "output_kms_key": ("okey", {"OutputDataConfig.KmsKeyId": "okey"}),
    "disable_output_compression": (True, {"OutputDataConfig.CompressionType": "NONE"}),
    "keep_alive_period": (77, {"ResourceConfig.KeepAlivePeriodInSeconds": 77}),
    "hyperparameters": ({"epochs": 7}, {"HyperParameters.epochs": "7"}),
    "encoding": ("plain", {"HyperParameters.sagemaker_program": '"train.py"'}),
    "inputs": ([CHANNEL], {"InputDataConfig.0.DataSource.S3DataSource.S3Uri": "s3://bucket/data"}),
    "input_mode": ("FastFile", {"AlgorithmSpecification.TrainingInputMode": "FastFile"}),
    "metric_definitions": (
        [{"Name": "loss", "Regex": "loss=(.*)"}],
        {"AlgorithmSpecification.MetricDefinitions.0.Regex": "loss=(.*)"},
    ),
    "environment": ({"SEVEN": 7}, {"Environment.SEVEN": "7"}),
    "container_log_level": (10, {"HyperParameters.sagemaker_container_log_level": "10"}),
    "max_run": (77, {"StoppingCondition.MaxRuntimeInSeconds": 77}),
    "max_wait": (99999, {"StoppingCondition.MaxWaitTimeInSeconds": 99999}),
    "max_pending": (7777, {"StoppingCondition.MaxPendingTimeInSeconds": 7777}),
    "max_retry_attempts": (7, {"RetryStrategy.MaximumRetryAttempts": 7}),
    "use_spot_instances": (True, {"EnableManagedSpotTraining": True}),
    "checkpoint_s3_uri": ("s3://bucket/c", {"CheckpointConfig.S3Uri": "s3://bucket/c"}),
    "checkpoint_local_path": ("/opt/ml/c", {"CheckpointConfig.LocalPath": "/opt/ml/c"}),
    "subnets": (["subnet-7"], {"VpcConfig.Subnets.0": "subnet-7"}),
    "security_group_ids": (["sg-7"], {"VpcConfig.SecurityGroupIds.0": "sg-7"}),
    "enable_network_isolation": (True, {"EnableNetworkIsolation": True}),
    "encrypt_inter_container_traffic": (True, {"EnableInterContainerTrafficEncryption": True}),
    "config_overrides": ({"ExperimentConfig": {"TrialName": "t"}}, {"ExperimentConfig.TrialName": "t"}),
}
# What a field needs beside it.
WITH: dict[str, dict[str, Any]] = {
    "max_wait": {"use_spot_instances": True},
    "use_spot_instances": {"max_wait": 86400},
    "subnets": {"security_group_ids": ["sg-7"]},
    "security_group_ids": {"subnets": ["subnet-7"]},
    "checkpoint_local_path": {"checkpoint_s3_uri": "s3://bucket/c"},
}


@pytest.mark.parametrize("name", [field.name for field in fields(TrainSpec)])
def test_every_field_reaches_the_request(name: str) -> None:
    value, places = PLACES[name]
    made = request(replace(SPEC, **{**WITH.get(name, {}), name: value}))
    found = leaves(made)
    assert {place: found.get(place) for place in places} == places


@pytest.mark.parametrize(
    ("value", "as_json", "as_plain"),
    [
        (1, "1", "1"),
        (0.5, "0.5", "0.5"),
        (True, "true", "True"),
        (None, "null", "None"),
        ("adam", '"adam"', "adam"),
        ("", '""', ""),
        ("1", '"1"', "1"),
        ([1, "a"], '[1, "a"]', "[1, 'a']"),
        ({"a": {"b": 1}}, '{"a": {"b": 1}}', "{'a': {'b': 1}}"),
        ("/opt/ml/model", '"/opt/ml/model"', "/opt/ml/model"),
    ],
)
def test_hyperparameters_are_json_for_scripts_and_plain_for_built_in_algorithms(
    value: Any, as_json: str, as_plain: str
) -> None:
    script = request(replace(SPEC, hyperparameters={"it": value}))
    assert script["HyperParameters"]["it"] == as_json
    assert json.loads(as_json) == value
    built_in = request(replace(SPEC, package=None, hyperparameters={"it": value}, encoding="plain"))
    assert built_in["HyperParameters"] == {"it": as_plain}


def test_script_mode_hyperparameters_are_json_under_plain_encoding_too() -> None:
    made = request(replace(SPEC, encoding="plain", hyperparameters={"optimizer": "adam"}))
    assert made["HyperParameters"]["optimizer"] == "adam"
    assert made["HyperParameters"]["sagemaker_program"] == '"train.py"'


def test_a_hyperparameter_cannot_change_which_code_runs() -> None:
    with pytest.raises(BadParameter, match="sagemaker_program"):
        request(replace(SPEC, hyperparameters={"sagemaker_program": "other.py"}))


@pytest.mark.parametrize("value", [float("inf"), float("nan"), object()])
def test_a_hyperparameter_that_is_no_json_value_is_named(value: object) -> None:
    with pytest.raises(BadParameter, match=r"hyperparameters=.*'a'"):
        request(replace(SPEC, hyperparameters={"a": value}))


def test_a_built_in_algorithm_gets_nothing_of_script_mode() -> None:
    made = request(replace(SPEC, package=None))
    assert "HyperParameters" not in made
    assert "Environment" not in made


def test_an_isolated_container_gets_its_code_as_a_channel() -> None:
    made = request(replace(SPEC, enable_network_isolation=True, inputs=[CHANNEL]))
    assert [each["ChannelName"] for each in made["InputDataConfig"]] == ["training", "code"]
    assert made["InputDataConfig"][1] == channel("code", {"s3_data": PACKAGE["s3_uri"]})
    assert json.loads(made["HyperParameters"]["sagemaker_submit_directory"]) == (
        "/opt/ml/input/data/code/sourcedir.tar.gz"
    )


def test_a_users_environment_lies_over_ours() -> None:
    made = request(replace(SPEC, environment={"SM_GIT_REPO": "mine", "B": ""}))
    assert made["Environment"]["SM_GIT_REPO"] == "mine"
    assert made["Environment"]["B"] == ""


def test_overrides_come_last_and_can_remove() -> None:
    overrides = {"ResourceConfig": {"InstanceType": None, "InstanceCount": None, "VolumeSizeInGB": 5}}
    made = training_request(replace(SPEC, config_overrides=overrides), job_name="j", tags=TAGS)
    assert made["ResourceConfig"] == {"VolumeSizeInGB": 5}


def test_no_override_can_take_away_what_a_job_is_found_again_by() -> None:
    more = [{"Key": "cost", "Value": "5"}]
    made = training_request(replace(SPEC, config_overrides={"Tags": more}), job_name="j", tags=TAGS)
    assert made["Tags"] == [*more, *TAGS]
    with pytest.raises(BadParameter, match="TrainingJobName"):
        request(replace(SPEC, config_overrides={"TrainingJobName": "mine"}))


def test_a_channel_has_every_option_of_the_sdks_training_input() -> None:
    made = channel(
        "training",
        {
            "s3_data": "s3://bucket/manifest",
            "distribution": "ShardedByS3Key",
            "compression": "Gzip",
            "content_type": "text/csv",
            "record_wrapping": "RecordIO",
            "s3_data_type": "AugmentedManifestFile",
            "instance_groups": ["g"],
            "input_mode": "Pipe",
            "attribute_names": ["a", "b"],
            "shuffle_config": 0,
        },
    )
    assert made == {
        "ChannelName": "training",
        "DataSource": {
            "S3DataSource": {
                "S3DataType": "AugmentedManifestFile",
                "S3Uri": "s3://bucket/manifest",
                "S3DataDistributionType": "ShardedByS3Key",
                "InstanceGroupNames": ["g"],
                "AttributeNames": ["a", "b"],
            }
        },
        "CompressionType": "Gzip",
        "ContentType": "text/csv",
        "RecordWrapperType": "RecordIO",
        "InputMode": "Pipe",
        "ShuffleConfig": {"Seed": 0},
    }
    request(replace(SPEC, inputs=[made]))


def test_a_plain_channel_says_the_sdks_defaults_and_nothing_else() -> None:
    source = {"S3DataType": "S3Prefix", "S3Uri": "s3://bucket/data", "S3DataDistributionType": "FullyReplicated"}
    made = channel("training", {"s3_data": "s3://bucket/data"})
    assert made == {"ChannelName": "training", "DataSource": {"S3DataSource": source}}


@pytest.mark.parametrize(
    ("source", "problem"),
    [
        ({}, "inputs='t': lacks s3_data"),
        ({"s3_data": "s3://bucket/d", "s3_dat": 1, "a": 1}, "inputs='t': does not know a, s3_dat"),
        ({"s3_data": "/data"}, r"inputs\['t'\]='/data': is not an S3 URI"),
        ({"s3_data": None}, r"inputs\['t'\]=None: is not an S3 URI"),
    ],
)
def test_a_channel_without_data_or_with_an_unknown_option_is_refused(source: dict[str, Any], problem: str) -> None:
    with pytest.raises(BadParameter, match=f"^{problem}"):
        channel("t", source)


BAD: list[tuple[dict[str, Any], str]] = [
    ({"image_uri": "an image"}, "image_uri='an image'"),
    ({"role": "admin"}, "role='admin'"),
    ({"instance_type": "local"}, "instance_type='local'"),
    ({"output_path": "/out"}, "output_path='/out'"),
    ({"encoding": "yaml"}, "encoding='yaml'"),
    ({"input_mode": "file"}, "input_mode='file'.*'File'"),
    ({"instance_count": 0}, "instance_count=0"),
    ({"volume_size": "30"}, "volume_size='30'"),
    ({"max_run": -1}, "max_run=-1"),
    ({"max_wait": 100000}, "max_wait=100000.*use_spot_instances"),
    ({"use_spot_instances": True}, "max_wait=None"),
    ({"use_spot_instances": True, "max_wait": 86399}, "max_wait=86399.*86400"),
    ({"subnets": ["s"]}, "subnets=.'s'.*security_group_ids"),
    ({"security_group_ids": ["s"]}, "subnets=.*security_group_ids"),
    ({"metric_definitions": [{"Name": "a"}]}, "metric_definitions="),
    ({"environment": {"A": "x" * 513}}, "environment='A': its value has 513"),
    ({"hyperparameters": {"long": "x" * 2500, "short": 1}}, r"hyperparameters=\['long'\]"),
    ({"hyperparameters": {1: 2}}, "hyperparameters=1: is a name that is no text"),
    ({"environment": {1: "x"}}, "environment=1: is a name that is no text"),
]


@pytest.mark.parametrize(("changes", "message"), BAD)
def test_what_sagemaker_would_refuse_is_named_before_anything_is_sent(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(BadParameter, match=f"^{message}"):
        training_request(replace(SPEC, **changes), job_name="j", tags=[])


def test_values_of_exactly_the_longest_length_pass() -> None:
    request(replace(SPEC, environment={"A": "x" * 512}, hyperparameters={"long": "x" * 2498}))


def test_the_same_work_has_the_same_identity() -> None:
    elsewhere = {**PACKAGE, "s3_uri": "s3://other/0123/sourcedir.tar.gz", "commit": "c" * 40, "repo": "ssh://x"}
    assert identity(replace(SPEC, package=elsewhere), "job-2") == identity(SPEC)  # type: ignore[arg-type]
    isolated = replace(SPEC, enable_network_isolation=True)
    assert identity(replace(isolated, package=elsewhere)) == identity(isolated)  # type: ignore[arg-type]
    tagged = training_request(SPEC, job_name="job-1", tags=[])
    assert short_hash(request_identity(tagged, PACKAGE)) == identity(SPEC)
    ordered = replace(SPEC, hyperparameters={"a": 1, "b": 2})
    assert identity(ordered) == identity(replace(SPEC, hyperparameters={"b": 2, "a": 1}))


@pytest.mark.parametrize("name", sorted(PLACES.keys() - {"package", "encoding"}))
def test_every_field_but_the_names_changes_the_identity(name: str) -> None:
    value, _ = PLACES[name]
    bases = {
        "max_wait": replace(SPEC, use_spot_instances=True, max_wait=86400),
        "checkpoint_local_path": replace(SPEC, checkpoint_s3_uri="s3://bucket/c"),
    }
    base = bases.get(name, SPEC)
    assert identity(replace(base, **{**WITH.get(name, {}), name: value})) != identity(base)


def test_another_digest_or_entry_point_is_other_work() -> None:
    for changed in ({**PACKAGE, "digest": "4567" * 16}, {**PACKAGE, "entry_point": "other.py"}):
        assert identity(replace(SPEC, package=changed)) != identity(SPEC)  # type: ignore[arg-type]


def test_the_identity_leaves_the_request_as_it_was() -> None:
    made = request(SPEC)
    before = json.dumps(made)
    request_identity(made, PACKAGE)
    assert json.dumps(made) == before
