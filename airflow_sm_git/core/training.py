"""A training job's specification and the CreateTrainingJob request it becomes.

Sources: SageMaker API reference, CreateTrainingJob; the script-mode contract of the SageMaker Python SDK 2.257
(hyperparameters ``sagemaker_program``, ``sagemaker_submit_directory``, …, each value JSON-encoded).
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from airflow_sm_git.core.checks import (
    check_choice,
    check_image,
    check_instance_type,
    check_positive,
    check_role_arn,
    check_s3_uri,
)
from airflow_sm_git.core.errors import BadParameter
from airflow_sm_git.core.records import Package
from airflow_sm_git.core.requests import deep_merge, pruned, refuse_names

ISOLATED_SUBMIT_DIRECTORY = "/opt/ml/input/data/code/sourcedir.tar.gz"
ENCODINGS = ("json", "plain")
INPUT_MODES = ("File", "Pipe", "FastFile")
DEFAULT_MAX_RUN = 86400  # seconds; SageMaker's own


@dataclass(frozen=True)
class TrainSpec:
    """What to train, on what, with which limits. Sizes are GiB, durations seconds, and None leaves a field out.

    The names are those of the SageMaker Python SDK's ``Estimator``.
    """

    package: Package | None
    image_uri: str
    role: str
    region: str
    output_path: str
    instance_type: str = "ml.m5.xlarge"
    instance_count: int = 1
    volume_size: int = 30
    volume_kms_key: str | None = None
    output_kms_key: str | None = None
    disable_output_compression: bool = False
    keep_alive_period: int | None = None
    hyperparameters: Mapping[str, Any] = field(default_factory=dict)
    encoding: str = "json"
    inputs: Sequence[Mapping[str, Any]] = ()
    input_mode: str = "File"
    metric_definitions: Sequence[Mapping[str, str]] = ()
    environment: Mapping[str, str] = field(default_factory=dict)
    container_log_level: int = 20
    max_run: int = DEFAULT_MAX_RUN
    max_wait: int | None = None
    max_pending: int | None = None
    max_retry_attempts: int | None = None
    use_spot_instances: bool = False
    checkpoint_s3_uri: str | None = None
    checkpoint_local_path: str | None = None
    subnets: Sequence[str] = ()
    security_group_ids: Sequence[str] = ()
    enable_network_isolation: bool = False
    encrypt_inter_container_traffic: bool = False
    config_overrides: Mapping[str, Any] = field(default_factory=dict)


def training_request(spec: TrainSpec, *, job_name: str, tags: list[dict[str, str]]) -> dict[str, Any]:
    """Build the CreateTrainingJob request.

    :param spec: what to train.
    :param job_name: the job's name, also told to the script.
    :param tags: the ``Tags`` list.
    :raises BadParameter: a value that SageMaker would refuse, or that contradicts another.
    """
    _check(spec)
    request = {
        "TrainingJobName": job_name,
        "RoleArn": spec.role,
        "AlgorithmSpecification": {
            "TrainingImage": spec.image_uri,
            "TrainingInputMode": spec.input_mode,
            "MetricDefinitions": [dict(metric) for metric in spec.metric_definitions],
        },
        "HyperParameters": _hyperparameters(spec, job_name),
        "InputDataConfig": _channels(spec),
        "OutputDataConfig": {
            "S3OutputPath": spec.output_path,
            "KmsKeyId": spec.output_kms_key,
            "CompressionType": "NONE" if spec.disable_output_compression else None,
        },
        "ResourceConfig": {
            "InstanceType": spec.instance_type,
            "InstanceCount": spec.instance_count,
            "VolumeSizeInGB": spec.volume_size,
            "VolumeKmsKeyId": spec.volume_kms_key,
            "KeepAlivePeriodInSeconds": spec.keep_alive_period,
        },
        "StoppingCondition": {
            "MaxRuntimeInSeconds": spec.max_run,
            "MaxWaitTimeInSeconds": spec.max_wait,
            "MaxPendingTimeInSeconds": spec.max_pending,
        },
        "RetryStrategy": {"MaximumRetryAttempts": spec.max_retry_attempts},
        "CheckpointConfig": {"S3Uri": spec.checkpoint_s3_uri, "LocalPath": spec.checkpoint_local_path},
        "VpcConfig": {"Subnets": list(spec.subnets), "SecurityGroupIds": list(spec.security_group_ids)},
        "Environment": _environment(spec),
        "EnableManagedSpotTraining": spec.use_spot_instances or None,
        "EnableNetworkIsolation": spec.enable_network_isolation or None,
        "EnableInterContainerTrafficEncryption": spec.encrypt_inter_container_traffic or None,
        "Tags": tags,
    }
    refuse_names(spec.config_overrides, ("TrainingJobName",), "config_overrides")
    overrides = dict(spec.config_overrides)
    more_tags = overrides.pop("Tags", None) or []
    merged = deep_merge(pruned(request), overrides)
    return {**merged, "Tags": [*more_tags, *tags]} if more_tags else merged


def request_identity(request: Mapping[str, Any], package: Package | None) -> dict[str, Any]:
    """What of a request decides whether two jobs would do the same work.

    Names, tags and provenance are left out and the package's URI is replaced by its digest: the same content under
    another prefix is the same work.
    """
    text = json.dumps({k: v for k, v in request.items() if k not in ("TrainingJobName", "Tags")}, sort_keys=True)
    identity: dict[str, Any] = json.loads(text)
    hyperparameters = identity.get("HyperParameters", {})
    hyperparameters.pop("sagemaker_job_name", None)
    if package is not None:
        text = json.dumps(identity, sort_keys=True).replace(package["s3_uri"], f"digest:{package['digest']}")
        identity = json.loads(text)
    identity["Environment"] = {k: v for k, v in identity.get("Environment", {}).items() if not k.startswith("SM_GIT_")}
    return identity


def provenance(package: Package) -> dict[str, str]:
    """Environment variables that tell a container which code it runs."""
    return {
        "SM_GIT_COMMIT": package["commit"],
        "SM_GIT_REPO": package["repo"][:512],
        "SM_GIT_TREE": package["tree"],
        "SM_GIT_DIGEST": package["digest"],
        "SM_GIT_PACKAGE": package["s3_uri"][:512],
    }


def longest(request: Mapping[str, Any]) -> float:
    """The seconds that SageMaker gives a job in all: to find its instances, and to run, or with spot to run at last.

    :param request: CreateTrainingJob's.
    """
    limits = request.get("StoppingCondition", {})
    running = limits.get("MaxWaitTimeInSeconds") or limits.get("MaxRuntimeInSeconds") or DEFAULT_MAX_RUN
    return float(running + (limits.get("MaxPendingTimeInSeconds") or 0))


def _environment(spec: TrainSpec) -> dict[str, str]:
    _check_keys("environment", spec.environment)
    ours = provenance(spec.package) if spec.package else {}
    environment = {**ours, **{key: str(value) for key, value in spec.environment.items()}}
    for key, value in environment.items():
        if len(value) > 512:
            raise BadParameter("environment", key, f"its value has {len(value)} characters, SageMaker takes 512")
    return environment


def _check_keys(parameter: str, given: Mapping[Any, Any]) -> None:
    for key in given:
        if not isinstance(key, str):
            raise BadParameter(parameter, key, "is a name that is no text", "Put it into quotes.")


def _hyperparameters(spec: TrainSpec, job_name: str) -> dict[str, str]:
    _check_keys("hyperparameters", spec.hyperparameters)
    encoded = {key: _encode(key, value, spec.encoding) for key, value in spec.hyperparameters.items()}
    if spec.package is not None:
        isolated = spec.enable_network_isolation
        directory = ISOLATED_SUBMIT_DIRECTORY if isolated else spec.package["s3_uri"]
        script_mode = {
            "sagemaker_program": spec.package["entry_point"],
            "sagemaker_submit_directory": directory,
            "sagemaker_container_log_level": spec.container_log_level,
            "sagemaker_job_name": job_name,
            "sagemaker_region": spec.region,
        }
        taken = sorted(encoded.keys() & script_mode.keys())
        if taken:
            raise BadParameter("hyperparameters", taken, "are given by this package", "Leave them out.")
        encoded |= {key: json.dumps(value) for key, value in script_mode.items()}
    too_long = [key for key, value in encoded.items() if len(value) > 2500]
    if too_long:
        raise BadParameter(
            "hyperparameters",
            too_long,
            "longer than the 2500 characters that SageMaker takes",
            "Put the value into a channel.",
        )
    return encoded


def _encode(key: str, value: Any, encoding: str) -> str:
    try:
        return json.dumps(value, allow_nan=False) if encoding == "json" else str(value)
    except (TypeError, ValueError) as error:
        problem = f"holds a {type(value).__name__}, which is no JSON value: {error}"
        raise BadParameter("hyperparameters", key, problem, "Convert it to text.") from error


def _channels(spec: TrainSpec) -> list[dict[str, Any]]:
    channels = [dict(channel) for channel in spec.inputs]
    if spec.package is not None and spec.enable_network_isolation:
        channels.append(channel("code", {"s3_data": spec.package["s3_uri"]}))
    return channels


def channel(name: str, source: Mapping[str, Any]) -> dict[str, Any]:
    """Build one ``InputDataConfig`` channel from the parameters of the SDK's ``TrainingInput``.

    :param name: the channel's name, such as ``training``.
    :param source: ``s3_data`` and any of distribution, compression, content_type, record_wrapping, s3_data_type,
        instance_groups, input_mode, attribute_names, shuffle_config (a seed).
    :raises BadParameter: an unknown key, or no ``s3_data``.
    """
    unknown = sorted(source.keys() - _CHANNEL_KEYS)
    if unknown or "s3_data" not in source:
        problem = f"does not know {', '.join(unknown)}" if unknown else "lacks s3_data"
        raise BadParameter("inputs", name, problem, f"A channel takes {', '.join(sorted(_CHANNEL_KEYS))}.")
    get = source.get
    return pruned(
        {
            "ChannelName": name,
            "DataSource": {
                "S3DataSource": {
                    "S3DataType": get("s3_data_type", "S3Prefix"),
                    "S3Uri": check_s3_uri(f"inputs[{name!r}]", source["s3_data"]),
                    "S3DataDistributionType": get("distribution", "FullyReplicated"),
                    "InstanceGroupNames": get("instance_groups"),
                    "AttributeNames": get("attribute_names"),
                }
            },
            "CompressionType": get("compression"),
            "ContentType": get("content_type"),
            "RecordWrapperType": get("record_wrapping"),
            "InputMode": get("input_mode"),
            "ShuffleConfig": {"Seed": get("shuffle_config")},
        }
    )


_CHANNEL_KEYS = frozenset(
    {
        "s3_data",
        "distribution",
        "compression",
        "content_type",
        "record_wrapping",
        "s3_data_type",
        "instance_groups",
        "input_mode",
        "attribute_names",
        "shuffle_config",
    }
)


def _check(spec: TrainSpec) -> None:
    check_image("image_uri", spec.image_uri)
    check_role_arn("role", spec.role)
    check_instance_type("instance_type", spec.instance_type)
    check_s3_uri("output_path", spec.output_path)
    check_choice("encoding", spec.encoding, ENCODINGS)
    check_choice("input_mode", spec.input_mode, INPUT_MODES)
    for name in ("instance_count", "volume_size", "max_run"):
        check_positive(name, getattr(spec, name))
    if spec.max_wait is not None and not spec.use_spot_instances:
        raise BadParameter("max_wait", spec.max_wait, "has a meaning for spot only", "Set use_spot_instances=True.")
    if spec.use_spot_instances and (spec.max_wait is None or spec.max_wait < spec.max_run):
        raise BadParameter(
            "max_wait",
            spec.max_wait,
            f"must be at least max_run ({spec.max_run} s) with spot instances",
            "Raise max_wait.",
        )
    if bool(spec.subnets) != bool(spec.security_group_ids):
        raise BadParameter("subnets", list(spec.subnets), "a VPC needs subnets and security_group_ids", "Give both.")
    for metric in spec.metric_definitions:
        if set(metric) != {"Name", "Regex"}:
            raise BadParameter("metric_definitions", dict(metric), "is not {'Name': …, 'Regex': …}", "Give both keys.")
