"""What one task instance made: found by the hash in its name and by its tags, whatever became of its XCom."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass

from airflow_sm_git.clients.sagemaker import SageMakerClient
from airflow_sm_git.core import errors
from airflow_sm_git.core.names import TaskKey, read_tags, tag_value

KINDS = ("Endpoint", "EndpointConfig", "Model")  # in the order in which they can be deleted


@dataclass(frozen=True)
class Owned:
    """A resource of a kind (Endpoint, EndpointConfig, Model, TrainingJob) with our tags of it."""

    kind: str
    name: str
    tags: dict[str, str]


def find_owned(client: SageMakerClient, key: TaskKey, kinds: Sequence[str] = KINDS) -> list[Owned]:
    """The resources whose name carries a task instance's hash and whose tags agree."""
    expected = {"namespace": key.namespace, "dag": key.dag_id, "run": key.run_id}
    return [
        owned
        for kind in kinds
        for name in client.names(kind, key.hash)
        if (owned := read_owned(client, kind, name)) and _agrees(owned.tags, expected)
    ]


def read_owned(client: SageMakerClient, kind: str, name: str) -> Owned | None:
    """A resource with our tags of it, or None if it is not there."""
    answer = client.describe(kind, name)
    try:
        return Owned(kind, name, read_tags(client.tags(answer[f"{kind}Arn"]))) if answer else None
    except errors.NotFound:  # it has gone since
        return None


def delete_owned(
    client: SageMakerClient,
    found: Sequence[Owned],
    check_interval: float,
    deadline: float,
    *,
    remedy: str = "Clear the teardown task.",
) -> list[str]:
    """Delete resources, and see that they are gone: endpoints first, then what these have served.

    What an endpoint serves must not be deleted under it (API reference, DeleteEndpointConfig): it stays if that does.

    :param check_interval: seconds between two looks at what is being deleted.
    :param deadline: seconds since 1970.
    :param remedy: what the reader of the error can do.
    :return: what was deleted, as ``Kind name``.
    :raises TeardownError: something is still there; the rest has been deleted all the same.
    """
    endpoints = [owned for owned in found if owned.kind == "Endpoint"]
    deleted, refused = _delete(client, endpoints)
    there = [owned for owned in endpoints if not is_gone(client, owned.name, check_interval, deadline)]
    left = [f"{refused.get(owned.name, '')} Endpoint {owned.name!r} is still there.".strip() for owned in there]
    parts = sorted((owned for owned in found if owned not in endpoints), key=lambda each: KINDS.index(each.kind))
    if there and parts:
        left.append(f"What it serves stays with it: {', '.join(f'{each.kind} {each.name}' for each in parts)}.")
    elif parts:
        also, refused = _delete(client, parts)
        deleted += also
        left += refused.values()
    if left:
        raise errors.TeardownError(f"Not everything could be deleted: {' '.join(left)}", remedy)
    return deleted


def _delete(client: SageMakerClient, found: Sequence[Owned]) -> tuple[list[str], dict[str, str]]:
    """What was deleted, as ``Kind name``, and by name why others were not."""
    deleted, refused = [], {}
    for owned in found:
        try:
            if client.delete(owned.kind, owned.name):
                deleted.append(f"{owned.kind} {owned.name}")
        except errors.AwsError as error:
            refused[owned.name] = str(error)
    return deleted, refused


def is_gone(client: SageMakerClient, name: str, check_interval: float, deadline: float) -> bool:
    """Whether an endpoint is gone; waits while it is being deleted.

    :param check_interval: seconds between two looks, 5 at most.
    :param deadline: seconds since 1970.
    """
    while (endpoint := client.describe("Endpoint", name)) is not None:
        if endpoint["EndpointStatus"] != "Deleting" or time.time() >= deadline:
            return False
        time.sleep(min(check_interval, 5.0))
    return True


def _agrees(tags: dict[str, str], expected: dict[str, str]) -> bool:
    return all(tag_value(tags.get(key, "")) == tag_value(value) for key, value in expected.items())
