"""Old configurations and models of a standing endpoint."""

from __future__ import annotations

from airflow_sm_git.clients.sagemaker import SageMakerClient
from airflow_sm_git.core.names import content_base, read_tags

_SUFFIX = 13  # a hyphen and twelve characters: what `names.content_name` appends


def drop_old_versions(
    client: SageMakerClient, endpoint: str, live: tuple[str, str], namespace: str, *, keep: int
) -> list[str]:
    """Delete the oldest configurations and models that this package made for a standing endpoint.

    :param live: names of the live configuration and model, which always stay.
    :param namespace: only what carries it is touched.
    :param keep: how many of each stay, the live one included.
    :return: what was deleted, as ``Kind name``.
    """
    dropped = []
    for kind, name_in_use in zip(("EndpointConfig", "Model"), live, strict=True):
        base = content_base(endpoint)
        names = [name for name in client.names(kind, base) if name[:-_SUFFIX] == base]
        described = [client.describe(kind, name) for name in names]
        ours = [each for each in described if each and _is_ours(client, each[f"{kind}Arn"], namespace)]
        ours.sort(key=lambda each: (each[f"{kind}Name"] == name_in_use, each["CreationTime"]))
        for each in ours[: max(0, len(ours) - keep)]:
            name = each[f"{kind}Name"]
            if name != name_in_use and client.delete(kind, name):
                dropped.append(f"{kind} {name}")
    return dropped


def _is_ours(client: SageMakerClient, arn: str, namespace: str) -> bool:
    return read_tags(client.tags(arn)).get("namespace") == namespace
