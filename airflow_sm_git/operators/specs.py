"""From an operator's rendered parameters to the specification of what it asks for, every value checked."""

from __future__ import annotations

import logging
from dataclasses import replace
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

from airflow_sm_git.core.checks import check_model_data, check_s3_object
from airflow_sm_git.core.deployment import DeploySpec
from airflow_sm_git.core.errors import BadParameter, SmGitError
from airflow_sm_git.core.names import check_name, endpoint_name
from airflow_sm_git.core.records import Package, TrainingJob, load
from airflow_sm_git.core.training import TrainSpec
from airflow_sm_git.operators.inputs import channels
from airflow_sm_git.operators.values import as_bool, as_int, as_list, as_mapping, as_number, given, seconds

if TYPE_CHECKING:
    from collections.abc import Iterable

    from airflow_sm_git.core.names import TaskKey
    from airflow_sm_git.operators.deploy import DeployOperator
    from airflow_sm_git.operators.train import TrainOperator

_TRAIN_DURATIONS = ("max_run", "max_wait", "max_pending", "keep_alive_period")
_TRAIN_NUMBERS = ("instance_count", "volume_size", "max_retry_attempts", "container_log_level")
_TRAIN_FLAGS = (
    *("disable_output_compression", "use_spot_instances"),
    *("enable_network_isolation", "encrypt_inter_container_traffic"),
)
_TRAIN_AS_THEY_ARE = (
    *("image_uri", "instance_type", "volume_kms_key", "output_kms_key"),
    *("encoding", "input_mode", "checkpoint_s3_uri", "checkpoint_local_path"),
)
_DEPLOY_DURATIONS = ("model_data_download_timeout", "container_startup_health_check_timeout")
_DEPLOY_NUMBERS = ("initial_instance_count", "volume_size", "model_server_workers", "container_log_level")
_DEPLOY_FLAGS = ("enable_network_isolation",)
_DEPLOY_AS_THEY_ARE = ("image_uri", "hosting", "instance_type", "variant_name", "volume_kms_key")
_log = logging.getLogger(__name__)
VARIANT_PARAMETERS = (
    *("variant_name", "training_job", "model_data", "package", "entry_point", "hosting", "image_uri", "environment"),
    *("instance_type", "initial_instance_count", "initial_weight", "volume_size", "model_server_workers"),
    *("container_log_level", "model_data_download_timeout", "container_startup_health_check_timeout"),
)
_OF_ALL_VARIANTS = ("volume_kms_key", "enable_network_isolation", "s3_uri_prefix")


def package_of(operator: Any) -> Package | None:
    """The record of an operator's (or a variant's) package, if it has one.

    :raises BadParameter: it is something else.
    """
    return load(Package, "package", operator.package) if operator.package else None


def train_spec(operator: TrainOperator, region: str) -> TrainSpec:
    """What a `TrainOperator` asks for; local inputs are uploaded, and a role's name is looked up.

    :raises BadParameter: a value that cannot work.
    """
    aws = operator.aws()
    store = aws.store(operator.s3_uri_prefix or None)
    return TrainSpec(
        package=package_of(operator),
        role=aws.role_arn(operator.role),
        region=region,
        output_path=operator.output_path or store.uri("output/"),
        hyperparameters=as_mapping("hyperparameters", operator.hyperparameters),
        inputs=channels(operator.inputs, store),
        environment=as_mapping("environment", operator.environment),
        metric_definitions=as_list("metric_definitions", operator.metric_definitions),
        subnets=as_list("subnets", operator.subnets),
        security_group_ids=as_list("security_group_ids", operator.security_group_ids),
        config_overrides=as_mapping("config_overrides", operator.config_overrides),
        **_numbers(operator, _TRAIN_DURATIONS, _TRAIN_NUMBERS),
        **_rest(operator, _TRAIN_FLAGS, _TRAIN_AS_THEY_ARE),
    )


def deploy_spec(operator: DeployOperator, key: TaskKey, region: str) -> DeploySpec:
    """What a `DeployOperator` asks for; a model is repacked, and a role's name is looked up.

    :param key: names the endpoint, if the operator does not.
    :raises BadParameter: a value that cannot work.
    """
    name = named(operator.endpoint_name)
    overrides = as_mapping("config_overrides", operator.config_overrides)
    variants = as_list("variants", operator.variants)
    alone = DeploySpec(
        endpoint_name=check_name("endpoint_name", name)
        if name
        else endpoint_name(key, named(operator.endpoint_name_prefix)),
        role=operator.aws().role_arn(operator.role),
        region=region,
        subnets=as_list("subnets", operator.subnets),
        security_group_ids=as_list("security_group_ids", operator.security_group_ids),
        deployment_config=as_mapping("deployment_config", operator.deployment_config),
        config_overrides={
            action: as_mapping(f"config_overrides[{action!r}]", each) for action, each in overrides.items()
        },
        **_served(operator, with_model=not variants),
    )
    return replace(alone, variants=[_variant_spec(operator, alone, each) for each in variants])


def named(value: Any) -> str | None:
    """A name, or None where none is given; a Param that is None comes out of a template as the text "None"."""
    return None if given(value) in (None, "None") else str(value)


def _variant_spec(operator: DeployOperator, alone: DeploySpec, given_variant: Any) -> DeploySpec:
    """One of several variants: what it says, and for the rest what the operator says."""
    said = as_mapping("variants", given_variant)
    if not said.get("variant_name"):
        raise BadParameter("variants", sorted(said), "has no variant_name", "Give each variant a name.")
    for parameter in said:
        if parameter not in VARIANT_PARAMETERS:
            remedy = f"A variant may have {', '.join(VARIANT_PARAMETERS)}."
            raise BadParameter("variants", parameter, "is no parameter of a variant", remedy)
    own = {name: getattr(operator, name) for name in (*VARIANT_PARAMETERS, *_OF_ALL_VARIANTS)}
    if {"training_job", "model_data"} & said.keys():
        own |= {"training_job": None, "model_data": None}  # the operator's is not the variant's other one
    return replace(alone, **_served(SimpleNamespace(aws=operator.aws, **(own | said)), with_model=True))


def _served(operator: Any, *, with_model: bool) -> dict[str, Any]:
    """The fields of a spec that a variant may have for itself.

    :param operator: has the parameters that the fields come from.
    """
    package = package_of(operator)
    model_data = _hosted(operator, package) if with_model else None
    as_it_is = model_data is not None and (package is None or operator.hosting != "repack")
    return {
        "package": package,
        "model_data": model_data,
        "model_version": _etag(operator, str(model_data)) if as_it_is else None,  # a repacked one's URI tells it
        "entry_point": operator.entry_point or None,
        "initial_weight": as_number("initial_weight", operator.initial_weight),
        "environment": as_mapping("environment", operator.environment),
        **_numbers(operator, _DEPLOY_DURATIONS, _DEPLOY_NUMBERS),
        **_rest(operator, _DEPLOY_FLAGS, _DEPLOY_AS_THEY_ARE),
    }


def _hosted(operator: Any, package: Package | None) -> str | None:
    """The URI of the model to serve, with the package's code in it where it belongs there."""
    model_data = _model_data(operator)
    if package is None or operator.hosting != "repack":
        return model_data
    if not model_data:
        remedy = 'Give training_job or model_data, or hosting="s3" for code that needs no model.'
        raise BadParameter("model_data", None, "there is no model to put the code into", remedy)
    check_s3_object("model_data", model_data)  # it is read here
    store = operator.aws().store(operator.s3_uri_prefix or None)
    return str(store.repack(model_data, package["s3_uri"], package["digest"]))


def _etag(operator: Any, uri: str) -> str | None:
    """What S3 tells an object's content by; None, and a line in the log, where it does not tell."""
    try:
        head = operator.aws().store(uri).head(uri)
        why = "there is no such object"
    except SmGitError as error:
        if getattr(error, "retryable", False):
            raise
        head, why = None, str(error)
    if head is None:
        _log.warning("Whether %s is changed in place will not be noticed: %s", uri, why)
    return str(head["ETag"]) if head else None


def _numbers(operator: Any, durations: Iterable[str], counts: Iterable[str]) -> dict[str, Any]:
    """Parameters that are whole numbers, of which some may be given as timedelta; None stays None."""
    found: dict[str, Any] = {}
    for name in durations:
        value = given(getattr(operator, name))
        found[name] = None if value is None else int(seconds(name, value))
    for name in counts:
        value = given(getattr(operator, name))
        found[name] = None if value is None else as_int(name, value)
    return found


def _rest(operator: Any, flags: Iterable[str], texts: Iterable[str]) -> dict[str, Any]:
    found: dict[str, Any] = {name: as_bool(name, getattr(operator, name)) for name in flags}
    return found | {name: given(getattr(operator, name)) for name in texts}


def _model_data(operator: Any) -> str | None:
    if operator.training_job and operator.model_data:
        raise BadParameter("model_data", operator.model_data, "given together with training_job", "Give one.")
    if not operator.training_job:
        uri = named(operator.model_data)
        return check_model_data("model_data", uri) if uri else None
    job: TrainingJob = load(TrainingJob, "training_job", operator.training_job)
    if not job["model_data"]:
        problem = f"is {job['status']} and has no model"
        raise BadParameter("training_job", job["job_name"], problem, "Save something to SM_MODEL_DIR.")
    return job["model_data"]
