"""Old configurations and models of a standing endpoint."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from airflow_sm_git.clients.sagemaker import SageMakerClient
from airflow_sm_git.core import errors
from airflow_sm_git.core.names import TAG_PREFIX, content_base, make_tags, read_tags

SERVED = "served-at"
"""The tag that says when a configuration was last seen to serve; one whose rollout failed has none."""
UNPROVEN = timedelta(days=1)
"""How long a configuration that has not served yet may be about to: its deploy may wait for another one's."""
_SUFFIX = 13  # a hyphen and twelve characters: what `names.content_name` appends


@dataclass(frozen=True)
class _Version:
    """A configuration or model that this package made."""

    answer: dict[str, Any]
    tags: dict[str, str]


def drop_old_versions(
    client: SageMakerClient,
    endpoint: str,
    in_use: Collection[str],
    namespace: str,
    *,
    keep: int,
    unproven: timedelta = UNPROVEN,
) -> list[str]:
    """Delete the configurations that this package made for a standing endpoint, and their models, but for the last.

    Which are the last is decided by when they served, so that one which never came up displaces none that did. One
    that has not served stays for some time whatever is asked for, and so does what the endpoint serves or is on its way
    to right before the deletion: another deploy may be about to use it.

    :param in_use: names of configurations that always stay.
    :param namespace: only what carries it is touched.
    :param keep: how many configurations stay with their models, those in use included.
    :param unproven: how long one that has not served stays.
    :return: what was deleted, as ``Kind name``.
    """
    configs = {each.answer["EndpointConfigName"]: each for each in _ours(client, "EndpointConfig", endpoint, namespace)}
    order = sorted(
        configs,
        key=lambda name: (name in in_use, configs[name].tags.get(SERVED, ""), configs[name].answer["CreationTime"]),
    )
    young = datetime.now(UTC) - unproven
    goes = [
        name
        for name in order[: max(0, len(order) - keep)]
        if name not in in_use and (SERVED in configs[name].tags or configs[name].answer["CreationTime"] < young)
    ]
    dropped = [
        f"EndpointConfig {name}"
        for name in goes
        if name not in in_use_now(client, endpoint) and client.delete("EndpointConfig", name)
    ]
    known = {name: models_of(each.answer) for name, each in configs.items()}
    needed = _needed(client, endpoint, known)
    models = _ours(client, "Model", endpoint, namespace)
    for each in sorted(models, key=lambda model: model.answer["CreationTime"]):
        name = each.answer["ModelName"]
        if name not in needed and name not in _needed(client, endpoint, known) and client.delete("Model", name):
            dropped.append(f"Model {name}")
    return dropped


def in_use_now(client: SageMakerClient, endpoint: str) -> set[str]:
    """The configurations that an endpoint serves, and is on its way to."""
    now = client.describe("Endpoint", endpoint) or {}
    pending = now.get("PendingDeploymentSummary", {}).get("EndpointConfigName")
    return {name for name in (now.get("EndpointConfigName"), pending) if name}


def models_of(config: Mapping[str, Any]) -> tuple[str, ...]:
    """The models that a configuration needs, those of shadow variants too.

    :param config: DescribeEndpointConfig's answer.
    """
    variants = [*config.get("ProductionVariants", ()), *config.get("ShadowProductionVariants", ())]
    return tuple(variant["ModelName"] for variant in variants if variant.get("ModelName"))


def tag_served(client: SageMakerClient, arn: str, since: datetime) -> None:
    """Write down on a configuration that it serves.

    :param since: DescribeEndpoint's ``LastModifiedTime``.
    """
    text = since.astimezone(UTC).isoformat(timespec="milliseconds")
    client.call("AddTags", ResourceArn=arn, Tags=make_tags({SERVED: text}))


def has_served(client: SageMakerClient, name: str) -> bool:
    """Whether a configuration was seen to serve what was asked for."""
    config = client.describe("EndpointConfig", name)
    return SERVED in ((_tags(client, config["EndpointConfigArn"]) if config else None) or {})


def forget_that_it_served(client: SageMakerClient, name: str) -> None:
    """Take back that a configuration serves as it should: it did, and does not now."""
    if config := client.describe("EndpointConfig", name):
        client.call("DeleteTags", ResourceArn=config["EndpointConfigArn"], TagKeys=[f"{TAG_PREFIX}{SERVED}"])


def note_that_it_serves(client: SageMakerClient, endpoint: Mapping[str, Any], namespace: str) -> None:
    """Write down that what an endpoint serves has served, if it is ours and nobody did: a deploy that did not wait.

    :param endpoint: DescribeEndpoint's answer.
    """
    name = endpoint["EndpointConfigName"]
    if endpoint["EndpointStatus"] != "InService" or name[:-_SUFFIX] != content_base(endpoint["EndpointName"]):
        return
    config = client.describe("EndpointConfig", name)
    tags = _tags(client, config["EndpointConfigArn"]) if config else None
    if config and tags and tags.get("namespace") == namespace and SERVED not in tags:
        tag_served(client, config["EndpointConfigArn"], endpoint["LastModifiedTime"])


def _needed(client: SageMakerClient, endpoint: str, known: dict[str, tuple[str, ...]]) -> set[str]:
    """The models that configurations of an endpoint's name need now.

    :param known: the models of configurations that have been looked at; those of new ones are added.
    """
    there = client.names("EndpointConfig", content_base(endpoint))
    for name in there:
        if name not in known:
            known[name] = models_of(client.describe("EndpointConfig", name) or {})
    return {model for name in there for model in known[name]}


def _ours(client: SageMakerClient, kind: str, endpoint: str, namespace: str) -> Iterator[_Version]:
    base = content_base(endpoint)
    for name in client.names(kind, base):
        if name[:-_SUFFIX] != base or (answer := client.describe(kind, name)) is None:
            continue
        tags = _tags(client, answer[f"{kind}Arn"])
        if tags is not None and tags.get("namespace") == namespace:
            yield _Version(answer, tags)


def _tags(client: SageMakerClient, arn: str) -> dict[str, str] | None:
    """Our tags of a resource; None if it has gone since it was described."""
    try:
        return read_tags(client.tags(arn))
    except errors.NotFound:
        return None
