"""An endpoint's specification, and the requests it becomes; which of them to send when is `core.rollout`'s.

Sources: SageMaker API reference, CreateModel, CreateEndpointConfig, CreateEndpoint, UpdateEndpoint; the hosting
contract of the SageMaker Python SDK 2.257 (``SAGEMAKER_PROGRAM``, …).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from airflow_sm_git.core.checks import check_choice, check_image, check_instance_type, check_positive, check_role_arn
from airflow_sm_git.core.errors import BadParameter
from airflow_sm_git.core.names import MODEL_ETAG, content_name, make_tags
from airflow_sm_git.core.records import Package
from airflow_sm_git.core.requests import deep_merge, pruned, refuse_names
from airflow_sm_git.core.training import provenance

HOSTING = ("repack", "s3")
REPACKED_SUBMIT_DIRECTORY = "/opt/ml/model/code"
MAX_ENVIRONMENT_VALUE = 1024
_OPERATIONS = ("CreateModel", "CreateEndpointConfig", "CreateEndpoint", "UpdateEndpoint")


@dataclass(frozen=True)
class DeploySpec:
    """What to serve, on what. Sizes are GiB, durations seconds, and None leaves a field out.

    :param model_data: S3 URI of the model.tar.gz to serve; under ``hosting="repack"`` the repacked one.
    :param model_version: what tells the object at `model_data` from another that is put in its place (its ETag); enters
        the model's name, not the request. None where that is not known, or the URI tells it.
    :param package: the hosting code, or None for a model that brings its own.
    :param variants: what several production variants serve and on what, each with its own ``variant_name``; of each
        only what belongs to a model or a variant counts. Empty: the one variant that the spec itself describes.
    :param deployment_config: UpdateEndpoint's ``DeploymentConfig``.
    :param config_overrides: by API action, such as ``{"CreateEndpointConfig": {…}}``.
    """

    endpoint_name: str
    image_uri: str
    role: str
    region: str
    model_data: str | None
    package: Package | None
    model_version: str | None = None
    entry_point: str | None = None
    hosting: str = "repack"
    instance_type: str = "ml.m5.large"
    initial_instance_count: int = 1
    initial_weight: float = 1.0
    variant_name: str = "AllTraffic"
    volume_size: int | None = None
    volume_kms_key: str | None = None
    model_data_download_timeout: int | None = None
    container_startup_health_check_timeout: int | None = None
    environment: Mapping[str, str] = field(default_factory=dict)
    container_log_level: int = 20
    model_server_workers: int | None = None
    enable_network_isolation: bool = False
    subnets: Sequence[str] = ()
    security_group_ids: Sequence[str] = ()
    variants: Sequence[DeploySpec] = ()
    deployment_config: Mapping[str, Any] = field(default_factory=dict)
    config_overrides: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)


@dataclass(frozen=True)
class DeployRequests:
    """The requests of one deployment, complete with names and tags; ``models`` in the order of the variants."""

    models: list[dict[str, Any]]
    endpoint_config: dict[str, Any]
    endpoint: dict[str, Any]
    update: dict[str, Any]

    @property
    def model(self) -> dict[str, Any]:
        """The first variant's model."""
        return self.models[0]


Tags = list[dict[str, str]]


def deploy_requests(
    spec: DeploySpec, tags: Tags, model_tags: Callable[[Package | None], Tags] | None = None
) -> DeployRequests:
    """Build the Create requests and the Update request.

    Models and configuration are immutable and named after their content, so that a repeated deploy finds them.

    :param model_tags: the tags of a model that runs a package, where variants run different ones; None for `tags`.
    :raises BadParameter: a value that SageMaker would refuse, or that contradicts another.
    """
    overrides = spec.config_overrides
    for action, each in overrides.items():
        check_choice("config_overrides", action, _OPERATIONS)
        refuse_names(each, ("ModelName", "EndpointConfigName", "EndpointName"), f"config_overrides[{action!r}]")
    _check_variant_overrides(overrides.get("CreateEndpointConfig", {}).get("ProductionVariants"))
    variants = _variants(spec)
    models: dict[str, dict[str, Any]] = {}
    live = []
    for variant in variants:
        _check(variant)
        model = deep_merge(pruned(_model(variant)), overrides.get("CreateModel", {}))
        name = content_name(spec.endpoint_name, [model, variant.model_version] if variant.model_version else model)
        told = [*(model_tags or (lambda _: tags))(variant.package), *make_tags({MODEL_ETAG: variant.model_version})]
        models.setdefault(name, _tagged({"ModelName": name, **model}, told))
        live.append(_variant(variant, name))
    drawn = pruned({"ProductionVariants": live, "KmsKeyId": spec.volume_kms_key})
    config = _with_overrides(drawn, overrides.get("CreateEndpointConfig", {}))
    named_config = {"EndpointConfigName": content_name(spec.endpoint_name, config), **config}
    endpoint = {"EndpointName": spec.endpoint_name, "EndpointConfigName": named_config["EndpointConfigName"]}
    update = pruned({**endpoint, "DeploymentConfig": spec.deployment_config})
    return DeployRequests(
        models=list(models.values()),
        endpoint_config=_tagged(named_config, tags),
        endpoint=_tagged(deep_merge(endpoint, overrides.get("CreateEndpoint", {})), tags),
        update=deep_merge(update, overrides.get("UpdateEndpoint", {})),
    )


def _variants(spec: DeploySpec) -> Sequence[DeploySpec]:
    names = [variant.variant_name for variant in spec.variants]
    for name in names:
        if names.count(name) > 1:
            raise BadParameter("variants", name, "is the name of two variants", "Give each its own variant_name.")
    return spec.variants or (spec,)


def program(spec: DeploySpec) -> str | None:
    """The script that serves: the spec's own entry point, else the package's."""
    return spec.entry_point or (spec.package["entry_point"] if spec.package else None)


def _tagged(request: dict[str, Any], tags: list[dict[str, str]]) -> dict[str, Any]:
    return {**request, "Tags": [*request.get("Tags", []), *tags]}


def _model(spec: DeploySpec) -> dict[str, Any]:
    return {
        "PrimaryContainer": {
            "Image": spec.image_uri,
            "ModelDataUrl": spec.model_data,
            "Environment": _environment(spec),
        },
        "ExecutionRoleArn": spec.role,
        "VpcConfig": {"Subnets": list(spec.subnets), "SecurityGroupIds": list(spec.security_group_ids)},
        "EnableNetworkIsolation": spec.enable_network_isolation or None,
    }


def _environment(spec: DeploySpec) -> dict[str, str]:
    environment: dict[str, str] = {}
    if spec.package is not None:
        repacked = spec.hosting == "repack"
        environment = {
            "SAGEMAKER_PROGRAM": program(spec) or "",
            "SAGEMAKER_SUBMIT_DIRECTORY": REPACKED_SUBMIT_DIRECTORY if repacked else spec.package["s3_uri"],
            "SAGEMAKER_CONTAINER_LOG_LEVEL": str(spec.container_log_level),
            "SAGEMAKER_REGION": spec.region,
            **provenance(spec.package),
        }
    if spec.model_server_workers is not None:
        environment["SAGEMAKER_MODEL_SERVER_WORKERS"] = str(spec.model_server_workers)
    environment |= {key: str(value) for key, value in spec.environment.items()}
    for key, value in environment.items():
        if len(value) > MAX_ENVIRONMENT_VALUE:
            problem = f"its value has {len(value)} characters, SageMaker takes {MAX_ENVIRONMENT_VALUE}"
            raise BadParameter("environment", key, problem)
    return environment


def _variant(spec: DeploySpec, model_name: str) -> dict[str, Any]:
    return pruned(
        {
            "VariantName": spec.variant_name,
            "ModelName": model_name,
            "InstanceType": spec.instance_type,
            "InitialInstanceCount": spec.initial_instance_count,
            "InitialVariantWeight": spec.initial_weight,
            "VolumeSizeInGB": spec.volume_size,
            "ModelDataDownloadTimeoutInSeconds": spec.model_data_download_timeout,
            "ContainerStartupHealthCheckTimeoutInSeconds": spec.container_startup_health_check_timeout,
        }
    )


def _with_overrides(config: dict[str, Any], overrides: Mapping[str, Any]) -> dict[str, Any]:
    """Production variants are merged one by one: by name, else by their place; further ones serve the first's model."""
    if not overrides.get("ProductionVariants"):
        return deep_merge(config, overrides)
    rest = {key: value for key, value in overrides.items() if key != "ProductionVariants"}
    variants: list[dict[str, Any]] = list(config["ProductionVariants"])
    model = {"ModelName": variants[0]["ModelName"]}
    for place, each in enumerate(overrides["ProductionVariants"]):
        names = [variant["VariantName"] for variant in variants]
        at = names.index(each["VariantName"]) if each.get("VariantName") in names else place
        if each.get("VariantName", names[0]) in names and at < len(variants):
            variants[at] = deep_merge(variants[at], each)
        else:
            variants.append({**model, **each})
    return {**deep_merge(config, rest), "ProductionVariants": variants}


def _check_variant_overrides(given: Any) -> None:
    is_list = isinstance(given, Sequence) and not isinstance(given, str)
    if given is not None and not (is_list and all(isinstance(each, Mapping) for each in given)):
        where = "config_overrides['CreateEndpointConfig']['ProductionVariants']"
        raise BadParameter(where, given, "is not a list of dicts", "Give a list with a dict for each variant.")


def _check(spec: DeploySpec) -> None:
    check_image("image_uri", spec.image_uri)
    check_role_arn("role", spec.role)
    check_instance_type("instance_type", spec.instance_type)
    check_positive("initial_instance_count", spec.initial_instance_count)
    check_choice("hosting", spec.hosting, HOSTING)
    if spec.initial_weight < 0:
        raise BadParameter("initial_weight", spec.initial_weight, "is negative", "Give a share, such as 0.5.")
    if bool(spec.subnets) != bool(spec.security_group_ids):
        raise BadParameter("subnets", list(spec.subnets), "a VPC needs subnets and security_group_ids", "Give both.")
