"""InvokeEndpoint: choose a variant, ask its process, and answer as the SageMaker runtime does."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from http import HTTPStatus

from airflow_sm_git.local.context import Context
from airflow_sm_git.local.errors import ApiError
from airflow_sm_git.local.errors_sagemaker import refuse
from airflow_sm_git.local.fleet import LOG_GROUP, Fleets, Member
from airflow_sm_git.local.hosting import Reply
from airflow_sm_git.local.invocation_headers import check
from airflow_sm_git.local.store import ENDPOINT

_WAIT_FOR_PROCESSES = 60.0
_SERVING = ("InService", "Updating", "SystemUpdating", "RollingBack")
# What would change the answer, and is not done here.
_UNSUPPORTED = {
    "x-amzn-sagemaker-target-model": "multi-model endpoints (TargetModel)",
    "x-amzn-sagemaker-target-container-hostname": "models of several containers (TargetContainerHostname)",
    "x-amzn-sagemaker-inference-component": "inference components",
    "x-amzn-sagemaker-enable-explanations": "explainers (EnableExplanations)",
    "x-amzn-sagemaker-session-id": "stateful sessions (SessionId)",
}


@dataclass(frozen=True)
class Invocation:
    """An endpoint's answer, as HTTP."""

    status: int
    headers: Mapping[str, str]
    body: bytes


def invoke(context: Context, fleets: Fleets, endpoint: str, headers: Mapping[str, str], body: bytes) -> Invocation:
    """Answer one request.

    :param endpoint: name, in the case in which it was created (SageMaker API reference, CreateEndpoint).
    :param headers: of the request, names in lower case.
    :raises ApiError: ``ValidationError`` where a header is not as it must be or nothing serves under this name,
        ``ModelError`` where the model fails.
    """
    check(endpoint, headers)
    kept = context.store.get(ENDPOINT, endpoint)
    if kept is None or kept["EndpointName"] != endpoint or kept["EndpointStatus"] not in _SERVING:
        raise refuse("invoke.missing", endpoint=endpoint, account=context.account)
    for header, what in _UNSUPPORTED.items():
        if header in headers:
            raise refuse("invoke.unsupported", what=what)
    weights = {variant["VariantName"]: float(variant["Weight"]) for variant in kept["_live"]["Variants"]}
    target = headers.get("x-amzn-sagemaker-target-variant")
    try:
        with fleets.serving(endpoint, weights, target, _WAIT_FOR_PROCESSES) as member:
            if member is None:
                raise refuse("invoke.no_variant", endpoint=endpoint, account=context.account, variant=target)
            return _ask(context, endpoint, member, headers, body)
    except TimeoutError as error:
        raise _model_error(context, endpoint, "invoke.unreachable", 0, "", {"endpoint": endpoint}) from error


def _ask(context: Context, endpoint: str, member: Member, headers: Mapping[str, str], body: bytes) -> Invocation:
    reply = member.process.invoke(
        body,
        headers.get("content-type"),
        headers.get("accept"),
        headers.get("x-amzn-sagemaker-custom-attributes"),
    )
    if reply.status == HTTPStatus.GATEWAY_TIMEOUT:
        raise _model_error(context, endpoint, "invoke.timeout", 0, "", {})
    if reply.status >= HTTPStatus.BAD_REQUEST:
        raise _refusal_of_model(context, endpoint, reply)
    answer = {"x-Amzn-Invoked-Production-Variant": member.variant}
    if reply.content_type:
        answer["Content-Type"] = reply.content_type
    if reply.custom_attributes:
        answer["X-Amzn-SageMaker-Custom-Attributes"] = reply.custom_attributes
    # A body after these would break the connection (RFC 9110, 6.4.1).
    without = reply.status in (HTTPStatus.NO_CONTENT, HTTPStatus.NOT_MODIFIED)
    return Invocation(reply.status, answer, b"" if without else reply.body)


def _refusal_of_model(context: Context, endpoint: str, reply: Reply) -> ApiError:
    original = reply.body.decode("utf-8", "replace")
    fields = {
        "side": "server" if reply.status >= 500 else "client",
        "status": reply.status,
        "original": original,
        "region": context.region,
        "endpoint": endpoint,
        "account": context.account,
    }
    return _model_error(context, endpoint, "invoke.model_error", reply.status, original, fields)


def _model_error(
    context: Context, endpoint: str, row: str, status: int, original: str, fields: Mapping[str, object]
) -> ApiError:
    group = f"arn:aws:logs:{context.region}:{context.account}:log-group:{LOG_GROUP}/{endpoint}"
    extra: dict[str, object] = {"OriginalStatusCode": status, "OriginalMessage": original, "LogStreamArn": group}
    return refuse(row, extra, **fields)
