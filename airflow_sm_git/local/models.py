"""CreateModel, DescribeModel, DeleteModel."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from airflow_sm_git.local.context import Context, public, split_uri
from airflow_sm_git.local.errors_sagemaker import refuse
from airflow_sm_git.local.store import MODEL, Body
from airflow_sm_git.local.tags import check_tags


def create_model(context: Context, request: Mapping[str, Any]) -> Body:
    """CreateModel. As on AWS, the model's data must be in S3 by now; whether it works shows in the endpoint.

    :raises ApiError: the name is taken, the containers are not as SageMaker wants them, or their data is missing.
    """
    arn = context.arn(MODEL, request["ModelName"])
    if ("PrimaryContainer" in request) == bool(request.get("Containers")):
        raise refuse("model.containers")
    context.check_role(request.get("ExecutionRoleArn"))
    for container in containers(request):
        _check_container(context, container)
    body = {"EnableNetworkIsolation": False, **public(request, "Tags"), "ModelArn": arn}
    context.insert(MODEL, body, check_tags(request.get("Tags", ())), "model.exists")
    return {"ModelArn": arn}


def describe_model(context: Context, request: Mapping[str, Any]) -> Body:
    """DescribeModel.

    :raises ApiError: no such model.
    """
    return public(context.require(MODEL, request["ModelName"], "model.missing"), "LastModifiedTime")


def delete_model(context: Context, request: Mapping[str, Any]) -> Body:
    """DeleteModel. Endpoints that serve the model go on serving it.

    :raises ApiError: no such model.
    """
    if context.store.delete(MODEL, request["ModelName"]) is None:
        raise refuse("model.missing", arn=context.arn(MODEL, request["ModelName"]))
    return {}


def containers(model: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The container definitions of a model, in the order in which a request passes them."""
    return [model["PrimaryContainer"]] if "PrimaryContainer" in model else list(model.get("Containers", ()))


def data_uri(container: Mapping[str, Any]) -> str | None:
    """Where the data of a container lies in S3, whichever of the two ways the request says it."""
    source = container.get("ModelDataSource", {}).get("S3DataSource", {})
    uri: str | None = container.get("ModelDataUrl") or source.get("S3Uri")
    return uri


def _check_container(context: Context, container: Mapping[str, Any]) -> None:
    if "ModelPackageName" in container:
        raise refuse("unsupported", what="models made from a model package")
    if "Image" not in container:
        raise refuse("model.image")
    uri = data_uri(container)
    if uri is None:
        return
    whole = uri.endswith("/") or container.get("Mode") == "MultiModel"
    found = context.has_objects(uri) if whole else context.objects.exists(*split_uri(uri))
    if not found:
        raise refuse("model.no_data", uri=uri)
