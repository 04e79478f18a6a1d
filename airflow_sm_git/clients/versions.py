"""Old configurations and models of a standing endpoint."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass
from typing import Any

from airflow_sm_git.clients.sagemaker import SageMakerClient
from airflow_sm_git.core.names import content_base, read_tags

SERVED = "served-at"
"""The tag that says when a configuration was last seen to serve; one whose rollout failed has none."""
_SUFFIX = 13  # a hyphen and twelve characters: what `names.content_name` appends


@dataclass(frozen=True)
class _Version:
    """A configuration or model that this package made."""

    answer: dict[str, Any]
    tags: dict[str, str]


def drop_old_versions(
    client: SageMakerClient, endpoint: str, in_use: Collection[str], namespace: str, *, keep: int
) -> list[str]:
    """Delete the configurations that this package made for a standing endpoint, and their models, but for the last.

    Which are the last is decided by when they served, so that one which never came up displaces none that did.

    :param in_use: names of the live configuration and of one that is on its way; they always stay.
    :param namespace: only what carries it is touched.
    :param keep: how many configurations stay with their models, those in use included.
    :return: what was deleted, as ``Kind name``.
    """
    configs = {each.answer["EndpointConfigName"]: each for each in _ours(client, "EndpointConfig", endpoint, namespace)}
    order = sorted(
        configs,
        key=lambda name: (name in in_use, configs[name].tags.get(SERVED, ""), configs[name].answer["CreationTime"]),
    )
    goes = [name for name in order[: max(0, len(order) - keep)] if name not in in_use]
    dropped = [f"EndpointConfig {name}" for name in goes if client.delete("EndpointConfig", name)]
    needed = {
        variant.get("ModelName")
        for name in configs.keys() - set(goes)
        for variant in configs[name].answer["ProductionVariants"]
    }
    models = _ours(client, "Model", endpoint, namespace)
    for each in sorted(models, key=lambda model: model.answer["CreationTime"]):
        name = each.answer["ModelName"]
        if name not in needed and client.delete("Model", name):
            dropped.append(f"Model {name}")
    return dropped


def _ours(client: SageMakerClient, kind: str, endpoint: str, namespace: str) -> Iterator[_Version]:
    base = content_base(endpoint)
    for name in client.names(kind, base):
        if name[:-_SUFFIX] != base or (answer := client.describe(kind, name)) is None:
            continue
        tags = read_tags(client.tags(answer[f"{kind}Arn"]))
        if tags.get("namespace") == namespace:
            yield _Version(answer, tags)
