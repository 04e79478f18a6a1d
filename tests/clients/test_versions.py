from __future__ import annotations

import pytest

from airflow_sm_git.clients.sagemaker import SageMakerClient
from airflow_sm_git.clients.versions import SERVED, drop_old_versions
from airflow_sm_git.core.names import content_name, make_tags
from airflow_sm_git.local.pytest_plugin import LocalSageMaker
from tests.local.sagemaker_requests import client, model, unique, variant

OURS = make_tags({"namespace": "tests"})


@pytest.fixture
def sagemaker(local_sagemaker: LocalSageMaker) -> SageMakerClient:
    return SageMakerClient(client(local_sagemaker, "sagemaker"))


def version(server: LocalSageMaker, endpoint: str, content: str, tags: list[dict[str, str]] = OURS) -> tuple[str, str]:
    """A configuration and a model of an endpoint; their names."""
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


def test_one_that_never_served_goes_before_those_that_did(
    local_sagemaker: LocalSageMaker, sagemaker: SageMakerClient
) -> None:
    endpoint = unique("standing")
    first, second, rolled_back, live = (version(local_sagemaker, endpoint, str(number)) for number in range(4))
    for at, (config, _) in enumerate((first, second, live)):
        answer = sagemaker.call("DescribeEndpointConfig", EndpointConfigName=config)
        tags = make_tags({SERVED: f"2026-01-0{at + 1}T00:00:00+00:00"})
        sagemaker.call("AddTags", ResourceArn=answer["EndpointConfigArn"], Tags=tags)
    drop_old_versions(sagemaker, endpoint, live[:1], "tests", keep=2)
    assert there(sagemaker, [first, second, rolled_back, live]) == [False, True, False, True]


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
