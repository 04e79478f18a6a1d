"""Remove what runs have left behind, outside of Airflow; only ever what our tags say is ours."""

from __future__ import annotations

import time

import boto3

from airflow_sm_git.clients.owned import delete_owned, read_owned
from airflow_sm_git.clients.sagemaker import SageMakerClient
from airflow_sm_git.core import errors
from airflow_sm_git.core.status import ENDPOINT_BUSY

WAIT_SECONDS = 1800.0


def remove_endpoint(name: str, namespace: str, *, delete: bool) -> list[str]:
    """List, or delete, an endpoint with its configuration and models.

    :param namespace: the endpoint must carry it.
    :param delete: whether to delete; waits for an endpoint that cannot be deleted yet.
    :return: lines to show.
    :raises NotFound: there is no such endpoint.
    :raises TeardownError: it is not ours, or could not be deleted.
    """
    client = SageMakerClient(boto3.client("sagemaker"))
    endpoint = client.describe("Endpoint", name)
    if endpoint is None:
        raise errors.NotFound(f"There is no endpoint {name!r} in {client.region}.", "Nothing is left to remove.")
    config = client.describe("EndpointConfig", endpoint["EndpointConfigName"])
    variants = config["ProductionVariants"] if config else []
    parts = [("Endpoint", name)]
    parts += [("EndpointConfig", endpoint["EndpointConfigName"])] if config else []
    parts += [("Model", variant["ModelName"]) for variant in variants]
    found = [owned for kind, each in parts if (owned := read_owned(client, kind, each)) is not None]
    ours = [owned for owned in found if owned.tags.get("namespace") == namespace]
    if not any(owned.kind == "Endpoint" for owned in ours):
        raise errors.TeardownError(
            f"Endpoint {name!r} does not carry the namespace {namespace!r}, so it is not touched.", "Give --namespace."
        )
    if not delete:
        lease = next(owned.tags.get("lease-until", "no lease") for owned in ours if owned.kind == "Endpoint")
        return [f"{owned.kind} {owned.name}" for owned in ours] + [
            f"lease until: {lease}; nothing deleted, add --delete"
        ]
    deadline = time.time() + WAIT_SECONDS
    if endpoint["EndpointStatus"] in ENDPOINT_BUSY:
        client.wait("Endpoint", name, check_interval=5.0, deadline=deadline)
    return [f"deleted {each}" for each in delete_owned(client, ours, 2.0, deadline)]
