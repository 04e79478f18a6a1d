from __future__ import annotations

import time
from dataclasses import replace
from typing import Any

import pytest

from airflow_sm_git.clients.owned import KINDS, Owned, delete_owned, find_owned, read_owned
from airflow_sm_git.clients.sagemaker import SageMakerClient
from airflow_sm_git.core import errors
from airflow_sm_git.core.names import TaskKey, content_name, endpoint_name, make_tags
from airflow_sm_git.local.pytest_plugin import LocalSageMaker
from tests.local.sagemaker_requests import client, model, settled, training_job, unique, variant

SLOW = """
import time

def model_fn(model_dir):
    time.sleep(3)

def predict_fn(data, model):
    return data
"""


@pytest.fixture
def sagemaker(local_sagemaker: LocalSageMaker) -> SageMakerClient:
    return SageMakerClient(client(local_sagemaker, "sagemaker"))


@pytest.fixture
def key() -> TaskKey:
    return TaskKey("tests", "dag", unique("run"), "deploy")


def tags_of(key: TaskKey) -> list[dict[str, str]]:
    return make_tags({"namespace": key.namespace, "dag": key.dag_id, "run": key.run_id, "commit": "abc"})


def make(
    server: LocalSageMaker,
    key: TaskKey,
    *,
    name: str | None = None,
    tags: list[dict[str, str]] | None = None,
    **changes: Any,
) -> list[str]:
    """A model, a configuration and an endpoint with a task instance's names and tags."""
    boto = client(server, "sagemaker")
    name = name or endpoint_name(key)
    tags = tags_of(key) if tags is None else tags
    request = {**model(server, **changes), "ModelName": content_name(name, "model"), "Tags": tags}
    boto.create_model(**request)
    config = content_name(name, "config")
    boto.create_endpoint_config(
        EndpointConfigName=config, ProductionVariants=[variant(request["ModelName"])], Tags=tags
    )
    boto.create_endpoint(EndpointName=name, EndpointConfigName=config, Tags=tags)
    return [f"Endpoint {name}", f"EndpointConfig {config}", f"Model {request['ModelName']}"]


def named(found: list[Owned]) -> list[str]:
    return [f"{each.kind} {each.name}" for each in found]


def remove(sagemaker: SageMakerClient, found: list[Owned], seconds: float = 30) -> list[str]:
    return delete_owned(sagemaker, found, 0.02, time.time() + seconds)


def test_what_a_task_instance_made_is_found_and_deleted_and_then_gone(
    local_sagemaker: LocalSageMaker, sagemaker: SageMakerClient, key: TaskKey
) -> None:
    made = make(local_sagemaker, key)
    settled(local_sagemaker, endpoint_name(key))
    found = find_owned(sagemaker, key)
    assert named(found) == made
    assert {each.tags["commit"] for each in found} == {"abc"}
    assert remove(sagemaker, found[::-1]) == made  # in the order that deletes, however it was found
    assert find_owned(sagemaker, key) == []
    assert remove(sagemaker, found) == []  # once more: gone already is no error


def test_nothing_made_is_nothing_found(sagemaker: SageMakerClient, key: TaskKey) -> None:
    assert find_owned(sagemaker, key) == []
    assert remove(sagemaker, []) == []


@pytest.mark.parametrize("field", ["namespace", "dag_id", "run_id"])
def test_what_has_somebody_elses_tags_is_not_ours_whatever_its_name(
    local_sagemaker: LocalSageMaker, sagemaker: SageMakerClient, key: TaskKey, field: str
) -> None:
    boto = client(local_sagemaker, "sagemaker")
    name = content_name(endpoint_name(key), "model")
    boto.create_model(
        **{**model(local_sagemaker), "ModelName": name, "Tags": tags_of(replace(key, **{field: "other"}))}
    )
    assert sagemaker.names("Model", key.hash) == [name]
    assert find_owned(sagemaker, key) == []


def test_what_has_no_tags_is_not_ours(
    local_sagemaker: LocalSageMaker, sagemaker: SageMakerClient, key: TaskKey
) -> None:
    boto = client(local_sagemaker, "sagemaker")
    boto.create_model(**{**model(local_sagemaker), "ModelName": content_name(endpoint_name(key), "model")})
    assert find_owned(sagemaker, key) == []


def test_what_another_task_or_map_index_made_stays(
    local_sagemaker: LocalSageMaker, sagemaker: SageMakerClient, key: TaskKey
) -> None:
    boto = client(local_sagemaker, "sagemaker")
    for other in (replace(key, task_id="other"), replace(key, map_index=3)):
        name = content_name(endpoint_name(other), "model")
        boto.create_model(**{**model(local_sagemaker), "ModelName": name, "Tags": tags_of(other)})
        assert named(find_owned(sagemaker, other)) == [f"Model {name}"]
    assert find_owned(sagemaker, key) == []


@pytest.mark.parametrize("dag_id", ["漢字" * 60, "d" * 250, "d=é" * 40])
def test_a_dag_whose_id_does_not_fit_into_a_tag_finds_its_own(
    local_sagemaker: LocalSageMaker, sagemaker: SageMakerClient, key: TaskKey, dag_id: str
) -> None:
    long = replace(key, dag_id=dag_id)
    name = content_name(endpoint_name(long), "model")
    client(local_sagemaker, "sagemaker").create_model(
        **{**model(local_sagemaker), "ModelName": name, "Tags": tags_of(long)}
    )
    assert named(find_owned(sagemaker, long)) == [f"Model {name}"]
    almost = replace(long, dag_id=f"{dag_id}x")
    assert find_owned(sagemaker, almost) == []


def test_only_the_kinds_that_are_asked_for_are_looked_at(
    local_sagemaker: LocalSageMaker, sagemaker: SageMakerClient, key: TaskKey
) -> None:
    name = f"job-{key.hash}-1"
    boto = client(local_sagemaker, "sagemaker")
    boto.create_training_job(**training_job(local_sagemaker, "", name=name, Tags=tags_of(key)))
    assert find_owned(sagemaker, key) == []
    assert named(find_owned(sagemaker, key, ("TrainingJob",))) == [f"TrainingJob {name}"]


@pytest.mark.parametrize("kind", [*KINDS, "TrainingJob"])
def test_what_is_not_there_is_read_as_none(sagemaker: SageMakerClient, kind: str) -> None:
    assert read_owned(sagemaker, kind, unique("none")) is None


def test_an_endpoint_that_cannot_be_deleted_yet_is_named_and_keeps_what_it_serves(
    local_sagemaker: LocalSageMaker, sagemaker: SageMakerClient, key: TaskKey
) -> None:
    make(local_sagemaker, key, handler=SLOW)
    found = find_owned(sagemaker, key)
    with pytest.raises(errors.TeardownError, match=rf"Not everything.*'{endpoint_name(key)}' is still there") as caught:
        remove(sagemaker, found)
    assert f"DeleteEndpoint for {endpoint_name(key)} was refused" in str(caught.value)
    kept = named(find_owned(sagemaker, key))
    assert kept == named(found)
    assert f"What it serves stays with it: {', '.join(kept[1:])}." in str(caught.value)
    settled(local_sagemaker, endpoint_name(key))
    assert remove(sagemaker, find_owned(sagemaker, key)) == kept


class DeletedByOthers(SageMakerClient):
    """A client before whose first call of an action somebody deletes an endpoint.

    :param gone: whether it is gone then, or still being deleted.
    """

    def __init__(self, boto: Any, action: str, name: str, gone: bool) -> None:
        super().__init__(boto)
        self._boto, self._action, self._name, self._gone_then = boto, action, name, gone

    def call(self, operation: str, /, **request: Any) -> dict[str, Any]:
        if operation == self._action:
            self._action = ""
            self._boto.delete_endpoint(EndpointName=self._name)
            while self._gone_then and self.describe("Endpoint", self._name):
                time.sleep(0.01)
        return super().call(operation, **request)


def test_what_is_gone_before_its_tags_are_read_is_not_there(
    local_sagemaker: LocalSageMaker, sagemaker: SageMakerClient, key: TaskKey
) -> None:
    made, name = make(local_sagemaker, key), endpoint_name(key)
    settled(local_sagemaker, name)
    meddled = DeletedByOthers(client(local_sagemaker, "sagemaker"), "ListTags", name, gone=True)
    found = find_owned(meddled, key)
    assert named(found) == made[1:]
    remove(sagemaker, found)


def test_an_endpoint_that_somebody_is_deleting_already_is_no_error_when_it_is_gone(
    local_sagemaker: LocalSageMaker, sagemaker: SageMakerClient, key: TaskKey
) -> None:
    made, name = make(local_sagemaker, key), endpoint_name(key)
    settled(local_sagemaker, name)
    meddled = DeletedByOthers(client(local_sagemaker, "sagemaker"), "DeleteEndpoint", name, gone=False)
    since = len(local_sagemaker.requests())
    assert remove(meddled, find_owned(sagemaker, key)) == made[1:]
    refused = [line for line in local_sagemaker.requests()[since:] if line["action"] == "DeleteEndpoint"]
    assert [line["status"] for line in refused] == [200, 400]
    assert find_owned(sagemaker, key) == []


def test_a_deletion_that_does_not_end_in_time_is_an_error(
    local_sagemaker: LocalSageMaker, sagemaker: SageMakerClient, key: TaskKey
) -> None:
    made = make(local_sagemaker, key)
    settled(local_sagemaker, endpoint_name(key))

    class StaysDeleting(SageMakerClient):
        """Says once more that it is being deleted: the real client's answers, a moment late."""

        late: dict[str, Any] | None = None

        def describe(self, kind: str, name: str) -> dict[str, Any] | None:
            answer = super().describe(kind, name)
            if kind == "Endpoint" and answer is not None:
                self.late = {**answer, "EndpointStatus": "Deleting"}
            return answer or self.late

    slow = StaysDeleting(client(local_sagemaker, "sagemaker"))
    slow.describe("Endpoint", endpoint_name(key))
    with pytest.raises(errors.TeardownError, match="is still there"):
        remove(slow, find_owned(sagemaker, key), seconds=0.1)
    assert remove(sagemaker, find_owned(sagemaker, key)) == made[1:], "what it served may be needed until it is gone"
