"""CreateEndpointConfig, DescribeEndpointConfig, DeleteEndpointConfig."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from airflow_sm_git.local.context import Context, public
from airflow_sm_git.local.errors_sagemaker import refuse
from airflow_sm_git.local.store import ENDPOINT_CONFIG, MODEL, Body
from airflow_sm_git.local.tags import check_tags

# What changes how an endpoint answers, and is not done here: refused rather than quietly left out.
_UNSUPPORTED = {
    "AsyncInferenceConfig": "asynchronous endpoints",
    "ShadowProductionVariants": "shadow variants",
    "ExplainerConfig": "explainers",
}


def create_endpoint_config(context: Context, request: Mapping[str, Any]) -> Body:
    """CreateEndpointConfig. Instances, volumes, keys and data capture are kept and described, and change nothing here.

    :raises ApiError: the name is taken, a model is missing, or something is asked for that the local server lacks.
    """
    arn = context.arn(ENDPOINT_CONFIG, request["EndpointConfigName"])
    for member, what in _UNSUPPORTED.items():
        if request.get(member):
            raise refuse("unsupported", what=what)
    context.check_role(request.get("ExecutionRoleArn"))
    _check_variants(context, request["ProductionVariants"])
    variants = [{"InitialVariantWeight": 1.0, **variant} for variant in request["ProductionVariants"]]
    body = {
        "EnableNetworkIsolation": False,
        **public(request, "Tags"),
        "ProductionVariants": variants,
        "EndpointConfigArn": arn,
    }
    context.insert(ENDPOINT_CONFIG, body, check_tags(request.get("Tags", ())), "endpoint_config.exists")
    return {"EndpointConfigArn": arn}


def describe_endpoint_config(context: Context, request: Mapping[str, Any]) -> Body:
    """DescribeEndpointConfig.

    :raises ApiError: no such configuration.
    """
    body = context.require(ENDPOINT_CONFIG, request["EndpointConfigName"], "endpoint_config.missing")
    return public(body, "LastModifiedTime")


def delete_endpoint_config(context: Context, request: Mapping[str, Any]) -> Body:
    """DeleteEndpointConfig. Endpoints made from it go on.

    :raises ApiError: no such configuration.
    """
    name = request["EndpointConfigName"]
    if context.store.delete(ENDPOINT_CONFIG, name) is None:
        raise refuse("endpoint_config.missing", arn=context.arn(ENDPOINT_CONFIG, name))
    return {}


def _check_variants(context: Context, variants: list[dict[str, Any]]) -> None:
    seen = set()
    for variant in variants:
        name = variant["VariantName"]
        if name in seen:
            raise refuse("endpoint_config.duplicate_variant", variant=name)
        seen.add(name)
        if "ModelName" not in variant:
            raise refuse("unsupported", what="variants without a model (inference components)")
        if "InstanceType" not in variant and "ServerlessConfig" not in variant:
            raise refuse("endpoint_config.no_capacity", variant=name)
        context.require(MODEL, variant["ModelName"], "model.missing")
