from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from itertools import count
from typing import Any

import pytest

from airflow_sm_git.clients.sagemaker import SageMakerClient
from airflow_sm_git.clients.versions import SERVED, drop_old_versions, models_of
from airflow_sm_git.core.names import content_name, make_tags
from airflow_sm_git.local.pytest_plugin import LocalSageMaker
from tests.local.sagemaker_requests import client, model, settled, unique, variant
from tests.steps import clean_up

OURS = make_tags({"namespace": "tests"})
_seconds = count()


@pytest.fixture
def sagemaker(local_sagemaker: LocalSageMaker) -> SageMakerClient:
    return SageMakerClient(client(local_sagemaker, "sagemaker"))


def served() -> list[dict[str, str]]:
    """The tags of a version that served later than all before it."""
    return make_tags({"namespace": "tests", SERVED: f"2026-01-01T00:{next(_seconds):04}"})


def version(
    server: LocalSageMaker, endpoint: str, content: str, tags: list[dict[str, str]] | None = None
) -> tuple[str, str]:
    """A configuration and a model of an endpoint, which have served unless the tags say otherwise; their names."""
    tags = served() if tags is None else tags
    boto = client(server, "sagemaker")
    model_name, config_name = content_name(endpoint, [content, "model"]), content_name(endpoint, [content, "config"])
    boto.create_model(**{**model(server), "ModelName": model_name, "Tags": tags})
    boto.create_endpoint_config(EndpointConfigName=config_name, ProductionVariants=[variant(model_name)], Tags=tags)
    return config_name, model_name


def there(sagemaker: SageMakerClient, versions: list[tuple[str, str]]) -> list[bool]:
    """Which versions are there; a half one fails."""
    found = [(sagemaker.describe("EndpointConfig", c), sagemaker.describe("Model", m)) for c, m in versions]
    assert all(bool(one) == bool(other) for one, other in found)
    return [bool(one) for one, _ in found]


def test_the_oldest_versions_go_and_as_many_stay_as_are_asked_for(
    local_sagemaker: LocalSageMaker, sagemaker: SageMakerClient
) -> None:
    endpoint = unique("standing")
    versions = [version(local_sagemaker, endpoint, str(number)) for number in range(4)]
    dropped = drop_old_versions(sagemaker, endpoint, versions[3][:1], "tests", keep=2)
    assert dropped == [
        *(f"EndpointConfig {config}" for config, _ in versions[:2]),
        *(f"Model {name}" for _, name in versions[:2]),
    ]
    assert there(sagemaker, versions) == [False, False, True, True]
    assert drop_old_versions(sagemaker, endpoint, versions[3][:1], "tests", keep=2) == []


def test_the_live_version_stays_however_old_it_is(local_sagemaker: LocalSageMaker, sagemaker: SageMakerClient) -> None:
    endpoint = unique("standing")
    versions = [version(local_sagemaker, endpoint, str(number)) for number in range(4)]
    drop_old_versions(sagemaker, endpoint, versions[0][:1], "tests", keep=2)
    assert there(sagemaker, versions) == [True, False, False, True]


def test_one_that_never_served_goes_before_those_that_did_when_it_is_old_enough(
    local_sagemaker: LocalSageMaker, sagemaker: SageMakerClient
) -> None:
    endpoint = unique("standing")
    first, second, rolled_back, live = (
        version(local_sagemaker, endpoint, str(number), OURS if number == 2 else None) for number in range(4)
    )
    assert drop_old_versions(sagemaker, endpoint, live[:1], "tests", keep=2) == [
        f"EndpointConfig {first[0]}",
        f"Model {first[1]}",
    ]
    assert there(sagemaker, [first, second, rolled_back, live]) == [False, True, True, True]
    drop_old_versions(sagemaker, endpoint, live[:1], "tests", keep=2, unproven=timedelta(0))
    assert there(sagemaker, [first, second, rolled_back, live]) == [False, True, False, True]


class Meddled(SageMakerClient):
    """A client before whose first call of an action something else happens."""

    def __init__(self, server: LocalSageMaker, action: str, act: Callable[[], object]) -> None:
        super().__init__(client(server, "sagemaker"))
        self._action, self._act = action, act

    def call(self, operation: str, /, **request: Any) -> dict[str, Any]:
        if operation == self._action:
            self._action = ""
            self._act()
        return super().call(operation, **request)


def test_a_version_that_another_deploy_brings_back_meanwhile_stays(
    local_sagemaker: LocalSageMaker, sagemaker: SageMakerClient
) -> None:
    endpoint = unique("standing")
    old, live = (version(local_sagemaker, endpoint, str(number)) for number in range(2))
    boto = client(local_sagemaker, "sagemaker")
    boto.create_endpoint(EndpointName=endpoint, EndpointConfigName=live[0])
    settled(local_sagemaker, endpoint)

    def bring_back() -> None:
        boto.update_endpoint(EndpointName=endpoint, EndpointConfigName=old[0])

    # The endpoint is asked last of all before a deletion: whatever comes before, the update is seen.
    meddled = Meddled(local_sagemaker, "DescribeEndpoint", bring_back)
    assert drop_old_versions(meddled, endpoint, live[:1], "tests", keep=1) == []
    assert settled(local_sagemaker, endpoint)["EndpointConfigName"] == old[0]
    assert drop_old_versions(sagemaker, endpoint, live[:1], "tests", keep=1) == []
    assert there(sagemaker, [old, live]) == [True, True]
    clean_up(local_sagemaker, endpoint)


def test_a_model_that_a_new_configuration_takes_up_meanwhile_stays(
    local_sagemaker: LocalSageMaker, sagemaker: SageMakerClient
) -> None:
    endpoint = unique("standing")
    old, live = (version(local_sagemaker, endpoint, str(number)) for number in range(2))
    again = content_name(endpoint, ["again"])

    def take_up() -> None:
        variants = [variant(old[1])]
        client(local_sagemaker, "sagemaker").create_endpoint_config(
            EndpointConfigName=again, ProductionVariants=variants, Tags=OURS
        )

    meddled = Meddled(local_sagemaker, "DescribeModel", take_up)
    assert drop_old_versions(meddled, endpoint, live[:1], "tests", keep=1) == [f"EndpointConfig {old[0]}"]
    assert sagemaker.describe("Model", old[1])


def test_a_version_that_goes_while_it_is_looked_at_is_no_error(
    local_sagemaker: LocalSageMaker, sagemaker: SageMakerClient
) -> None:
    endpoint = unique("standing")
    old, live = (version(local_sagemaker, endpoint, str(number)) for number in range(2))

    def delete() -> None:
        client(local_sagemaker, "sagemaker").delete_endpoint_config(EndpointConfigName=old[0])
        client(local_sagemaker, "sagemaker").delete_endpoint_config(EndpointConfigName=live[0])

    assert drop_old_versions(Meddled(local_sagemaker, "ListTags", delete), endpoint, (), "tests", keep=9) == [
        f"Model {name}" for _, name in (old, live)
    ]


def test_a_configuration_needs_the_models_of_its_shadow_variants_too() -> None:
    config = {"ProductionVariants": [{"ModelName": "a"}], "ShadowProductionVariants": [{"ModelName": "b"}, {}]}
    assert models_of(config) == ("a", "b")


def test_a_model_stays_as_long_as_a_configuration_needs_it(
    local_sagemaker: LocalSageMaker, sagemaker: SageMakerClient
) -> None:
    endpoint = unique("standing")
    old = version(local_sagemaker, endpoint, "old")
    between = version(local_sagemaker, endpoint, "between")
    variants = [variant(name, VariantName=f"v{number}") for number, name in enumerate((old[1], between[1]))]
    both = content_name(endpoint, ["both"])
    client(local_sagemaker, "sagemaker").create_endpoint_config(
        EndpointConfigName=both, ProductionVariants=variants, Tags=OURS
    )
    dropped = drop_old_versions(sagemaker, endpoint, [both], "tests", keep=1)
    assert dropped == [f"EndpointConfig {old[0]}", f"EndpointConfig {between[0]}"]
    assert sagemaker.describe("Model", old[1])
    assert sagemaker.describe("Model", between[1])


@pytest.mark.parametrize("keep", [0, 1])
def test_nothing_but_the_live_version_stays_when_one_or_none_is_kept(
    local_sagemaker: LocalSageMaker, sagemaker: SageMakerClient, keep: int
) -> None:
    endpoint = unique("standing")
    versions = [version(local_sagemaker, endpoint, str(number)) for number in range(3)]
    drop_old_versions(sagemaker, endpoint, versions[1][:1], "tests", keep=keep)
    assert there(sagemaker, versions) == [False, True, False]


def test_what_another_airflow_or_a_person_made_is_neither_deleted_nor_counted(
    local_sagemaker: LocalSageMaker, sagemaker: SageMakerClient
) -> None:
    endpoint = unique("standing")
    theirs = version(local_sagemaker, endpoint, "theirs", make_tags({"namespace": "other"}))
    persons = version(local_sagemaker, endpoint, "person's", [])
    versions = [version(local_sagemaker, endpoint, str(number)) for number in range(3)]
    drop_old_versions(sagemaker, endpoint, versions[2][:1], "tests", keep=2)
    assert there(sagemaker, [theirs, persons, *versions]) == [True, True, False, True, True]


@pytest.mark.parametrize(
    ("endpoint", "neighbour"),
    [
        ("shop-{0}", "shop-{0}-eu"),
        ("shop-{0}", "big-shop-{0}"),
        ("a--{0}", "a-{0}"),
        ("x" + "a" * 45 + "-{0}", "y" + "a" * 45 + "-{0}"),
    ],
    ids=["goes on", "begins before", "doubled hyphen", "long"],
)
def test_an_endpoint_of_a_similar_name_keeps_its_versions(
    local_sagemaker: LocalSageMaker, sagemaker: SageMakerClient, endpoint: str, neighbour: str
) -> None:
    mark = unique("s")
    endpoint, neighbour = endpoint.format(mark), neighbour.format(mark)
    others = [version(local_sagemaker, neighbour, str(number)) for number in range(3)]
    versions = [version(local_sagemaker, endpoint, str(number)) for number in range(3)]
    drop_old_versions(sagemaker, endpoint, versions[2][:1], "tests", keep=1)
    assert there(sagemaker, others) == [True, True, True]
    assert there(sagemaker, versions) == [False, False, True]
