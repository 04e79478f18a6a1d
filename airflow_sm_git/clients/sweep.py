"""Remove what runs have left behind, outside of Airflow; only ever what our tags say is ours."""

from __future__ import annotations

import logging
import re
import time
from datetime import timedelta
from typing import Any

from botocore.exceptions import BotoCoreError, ClientError

from airflow_sm_git.clients.environment_aws import boto_client, remedies_of_the_environment, sagemaker_client
from airflow_sm_git.clients.lease_sweep import sweep
from airflow_sm_git.clients.owned import Owned, delete_owned, read_owned
from airflow_sm_git.clients.s3 import Store
from airflow_sm_git.clients.sagemaker import SageMakerClient, translate
from airflow_sm_git.clients.sweep_marker import try_to_mark
from airflow_sm_git.core import errors
from airflow_sm_git.core.names import content_base
from airflow_sm_git.core.status import ENDPOINT_BUSY
from airflow_sm_git.core.sweep_record import Sweep

WAIT_SECONDS = 1800.0
_log = logging.getLogger(__name__)


def remove_expired(namespace: str, *, delete: bool, older_than: timedelta | None, s3_uri_prefix: str | None) -> Sweep:
    """List what carries a namespace in the environment's region, and delete what of it has expired.

    :param delete: whether to delete; a sweep that has left nothing undone writes down when it was.
    :param older_than: what has a lease and is older counts as expired too.
    :param s3_uri_prefix: where to write that down; None for SageMaker's default bucket.
    :return: the record, with what could not be done in its ``failed``.
    :raises AwsError: AWS cannot be asked, or refused; with what to set in the environment.
    """
    with remedies_of_the_environment():
        client = sagemaker_client()
        record = sweep(client, namespace, delete=delete, older_than=older_than)
    if delete and not record["failed"]:
        try:
            try_to_mark(_store(s3_uri_prefix, client.region), record)
        except errors.SmGitError as error:
            _log.warning("This sweep leaves no mark of when it was: %s", error)
    return record


def _store(prefix: str | None, region: str) -> Store:
    if prefix:
        return Store(boto_client("s3"), prefix)
    try:
        account = str(boto_client("sts").get_caller_identity()["Account"])
    except (ClientError, BotoCoreError) as error:
        raise translate(error, "GetCallerIdentity") from error
    return Store(boto_client("s3"), f"s3://sagemaker-{region}-{account}/sm-git/", expected_owner=account)


def remove_endpoint(name: str, namespace: str, *, delete: bool) -> list[str]:
    """List, or delete, an endpoint with its configurations and models, or those that are left of it.

    Credentials and region are those of the environment.

    :param namespace: what does not carry it is not touched.
    :param delete: whether to delete; waits for an endpoint that cannot be deleted yet.
    :return: lines to show.
    :raises TeardownError: the endpoint is not ours, or something could not be deleted.
    :raises AwsError: AWS cannot be asked, or refused; with what to set in the environment.
    """
    with remedies_of_the_environment():
        client = sagemaker_client()
        endpoint = client.describe("Endpoint", name)
        ours = _ours(client, name, endpoint, namespace)
        if not ours:
            return [
                f"There is no endpoint {name!r} in {client.region}, and no configuration or model of it that carries"
                f" the namespace {namespace!r}: nothing to remove."
            ]
        if not delete:
            return _listed(name, endpoint, ours)
        deadline = time.time() + WAIT_SECONDS
        if endpoint and endpoint["EndpointStatus"] in ENDPOINT_BUSY:
            client.wait("Endpoint", name, check_interval=5.0, deadline=deadline)
        remedy = "Run the command again."
        return [f"deleted {each}" for each in delete_owned(client, ours, 2.0, deadline, remedy=remedy)]


def _ours(client: SageMakerClient, name: str, endpoint: dict[str, Any] | None, namespace: str) -> list[Owned]:
    """The endpoint, and what belongs to it, as far as it carries the namespace."""
    if endpoint:
        owned = read_owned(client, "Endpoint", name)
        if owned and owned.tags.get("namespace") != namespace:
            raise errors.TeardownError(
                f"Endpoint {name!r} does not carry the namespace {namespace!r}, so it is not touched.",
                "Give --namespace.",
            )
    parts = [("Endpoint", name), *_content_named(client, name)]
    found = [owned for kind, each in dict.fromkeys(parts) if (owned := read_owned(client, kind, each)) is not None]
    return [owned for owned in found if owned.tags.get("namespace") == namespace]


def _content_named(client: SageMakerClient, endpoint: str) -> list[tuple[str, str]]:
    """Kind and name of what was made for an endpoint, even where that is gone: `core.names.content_name` tells."""
    base = content_base(endpoint)
    form = re.compile(rf"{re.escape(base)}-[a-z2-7]{{12}}")
    kinds = ("EndpointConfig", "Model")
    return [(kind, each) for kind in kinds for each in client.names(kind, base) if form.fullmatch(each)]


def _listed(name: str, endpoint: dict[str, Any] | None, ours: list[Owned]) -> list[str]:
    gone = [] if endpoint else [f"There is no endpoint {name!r}; of it are left:"]
    lease = next((owned.tags["lease-until"] for owned in ours if "lease-until" in owned.tags), "no lease")
    parts = [f"{owned.kind} {owned.name}" for owned in ours]
    return [*gone, *parts, f"lease until: {lease}; nothing deleted, add --delete"]
