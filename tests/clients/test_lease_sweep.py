"""Sweeping a real server: what is expired goes, and nothing else, whatever happens meanwhile."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from airflow_sm_git.clients.lease_sweep import sweep
from airflow_sm_git.clients.sagemaker import SageMakerClient
from airflow_sm_git.core.lease import ALIVE, ENDED, GONE
from airflow_sm_git.core.names import TaskKey, content_name, endpoint_name, job_name, make_tags
from airflow_sm_git.core.sweep_record import Sweep, render
from airflow_sm_git.local.pytest_plugin import LocalSageMaker
from tests import steps
from tests.local.sagemaker_requests import client, model, settled, training_job, unique, until, variant

HOUR = timedelta(hours=1)
QUICK: dict[str, Any] = {"check_interval": 0.02, "wait": 60}


def iso(moment: datetime) -> str:
    return moment.isoformat(timespec="seconds").replace("+00:00", "Z")


PAST, FUTURE = iso(datetime.now(UTC) - HOUR), iso(datetime.now(UTC) + HOUR)


class Scene:
    """What runs of one namespace have left.

    :param namespace: no other test has it.
    """

    def __init__(self, server: LocalSageMaker) -> None:
        self.server, self.boto = server, client(server, "sagemaker")
        self.client = SageMakerClient(self.boto)
        self.namespace = unique("ns")
        self.endpoints: list[str] = []

    def tags(self, lease: str | None = PAST, **more: str) -> list[dict[str, str]]:
        return make_tags({"namespace": self.namespace, "dag": "d", "run": "r", "lease-until": lease, **more})

    def name(self) -> str:
        return endpoint_name(TaskKey(self.namespace, "dag", unique("run"), "deploy"))

    def model(self, name: str, tags: list[dict[str, str]], content: str = "model") -> str:
        made = content_name(name, content)
        self.boto.create_model(**{**model(self.server), "ModelName": made, "Tags": tags})
        return made

    def config(self, name: str, models: list[str], tags: list[dict[str, str]], content: str = "config") -> str:
        made = content_name(name, content)
        variants = [variant(each, VariantName=f"v{number}") for number, each in enumerate(models)]
        self.boto.create_endpoint_config(EndpointConfigName=made, ProductionVariants=variants, Tags=tags)
        return made

    def endpoint(
        self, lease: str | None = PAST, *, tags: list[dict[str, str]] | None = None, name: str | None = None
    ) -> list[str]:
        """An endpoint that serves, with its parts; their titles."""
        name, tags = name or self.name(), self.tags(lease) if tags is None else tags
        made = self.model(name, tags)
        config = self.config(name, [made], tags)
        self.create(name, config, tags)
        settled(self.server, name)
        return [f"Endpoint {name}", f"EndpointConfig {config}", f"Model {made}"]

    def create(self, name: str, config: str, tags: list[dict[str, str]]) -> None:
        self.boto.create_endpoint(EndpointName=name, EndpointConfigName=config, Tags=tags)
        self.endpoints.append(name)

    def job(self, flag: Path, lease: str | None = PAST, **more: str) -> str:
        """A job that runs until there is the file; its title."""
        name = job_name(TaskKey(self.namespace, "dag", unique("run"), "train"), 1)
        request = training_job(self.server, steps.TRAIN, name=name, Tags=self.tags(lease, **more))
        request["HyperParameters"] |= {"wait-for": str(flag)}
        self.boto.create_training_job(**request)
        return f"TrainingJob {name}"

    def renew(self, title: str) -> None:
        """Give a resource a lease of another hour."""
        kind, name = title.split()
        [item] = self.client.summaries(kind, NameContains=name)
        self.boto.add_tags(ResourceArn=item[f"{kind}Arn"], Tags=make_tags({"lease-until": FUTURE}))

    def sweep(self, **options: Any) -> Sweep:
        return sweep(self.client, self.namespace, **{"delete": True, **QUICK, **options})

    def there(self, *titles: str) -> list[str]:
        """Those that still exist."""
        return [each for each in titles if self.client.describe(*each.split())]

    def status(self, job: str) -> str:
        return str(self.boto.describe_training_job(TrainingJobName=job.split()[1])["TrainingJobStatus"])


@pytest.fixture
def scene(local_sagemaker: LocalSageMaker) -> Iterator[Scene]:
    made = Scene(local_sagemaker)
    yield made
    for name in made.endpoints:
        if made.client.describe("Endpoint", name):
            steps.clean_up(local_sagemaker, name)


def reasons(record: Sweep) -> dict[str, str]:
    return {f"{each['kind']} {each['name']}": each["reason"] for each in record["listed"]}


def test_what_is_expired_is_listed_with_whose_it_is_and_nothing_is_deleted_unless_told(scene: Scene) -> None:
    titles = scene.endpoint()
    record = scene.sweep(delete=False)
    assert [f"{each['kind']} {each['name']}" for each in record["listed"]] == titles
    first = record["listed"][0]
    assert (first["lease_until"], first["dag"], first["run"], first["sweep"]) == (PAST, "d", "r", True)
    assert (record["delete"], record["deleted"], record["kept"], record["failed"]) == (False, [], titles, [])
    assert scene.there(*titles) == titles
    lines = render(record)
    assert [line.split("  ")[0] for line in lines[:3]] == titles
    assert "expired: its lease has ended" in lines[0]
    assert lines[-1] == "3 of 3 expired; nothing deleted, add --delete"


def test_expired_endpoint_configuration_and_model_are_deleted_in_order_and_the_next_sweep_finds_nothing(
    scene: Scene,
) -> None:
    titles = scene.endpoint()
    record = scene.sweep()
    assert (record["deleted"], record["kept"], record["failed"]) == (titles, [], [])
    assert scene.there(*titles) == []
    assert "deleted: its lease has ended" in render(record)[0]
    assert render(record)[-1] == "3 deleted, 0 kept"
    again = scene.sweep()
    assert (again["listed"], again["deleted"]) == ([], [])
    assert render(again) == [f"There is nothing in us-east-1 that carries the namespace {scene.namespace!r}."]


def test_what_has_another_namespace_no_tags_no_lease_or_one_in_the_future_stays(scene: Scene) -> None:
    other = make_tags({"namespace": f"{scene.namespace}x", "lease-until": PAST})
    kept = [
        *scene.endpoint(FUTURE),
        *scene.endpoint(None),
        *scene.endpoint("yesterday"),
        *scene.endpoint(tags=other),
        *scene.endpoint(tags=[]),
    ]
    record = scene.sweep()
    assert (record["deleted"], record["failed"]) == ([], [])
    assert scene.there(*kept) == kept
    assert [reasons(record).get(title) for title in kept[::3]] == [
        "its lease has not ended",
        "it has no lease: it is standing",
        "its lease cannot be read: 'yesterday'",
        None,
        None,
    ]


def test_a_standing_endpoint_by_any_name_is_listed_and_stays(scene: Scene) -> None:
    name = unique("dag-standing")
    titles = scene.endpoint(None, name=name)
    record = scene.sweep(older_than=timedelta(0))
    assert record["kept"] == titles
    assert scene.there(*titles) == titles


def test_older_than_takes_what_has_a_lease_that_has_not_ended(scene: Scene) -> None:
    titles = scene.endpoint(FUTURE)
    assert scene.sweep(older_than=HOUR)["deleted"] == []
    assert scene.sweep(older_than=timedelta(0))["deleted"] == titles


def test_expired_parts_that_another_endpoint_serves_stay(scene: Scene) -> None:
    mine, strangers = scene.name(), unique("dag-stranger")
    used = scene.model(mine, scene.tags(), "used")
    unused = scene.model(mine, scene.tags(), "unused")
    config = content_name(strangers, "config")
    scene.boto.create_endpoint_config(EndpointConfigName=config, ProductionVariants=[variant(used)])
    scene.create(strangers, config, [])
    settled(scene.server, strangers)
    record = scene.sweep()
    assert record["deleted"] == [f"Model {unused}"]
    assert reasons(record)[f"Model {used}"] == f"EndpointConfig {config} uses it"
    steps.clean_up(scene.server, strangers)


def test_expired_models_of_an_endpoint_that_stays_stay_though_its_configuration_is_gone(scene: Scene) -> None:
    endpoint, config, made = scene.endpoint()
    scene.renew(endpoint)
    scene.boto.delete_endpoint_config(EndpointConfigName=config.split()[1])
    record = scene.sweep()
    assert record["deleted"] == []
    assert scene.there(endpoint, made) == [endpoint, made]


@pytest.mark.parametrize("which", [0, 1, 2], ids=["endpoint", "configuration", "model"])
def test_a_lease_that_is_renewed_between_listing_and_deleting_is_kept(scene: Scene, which: int) -> None:
    titles = scene.endpoint()
    kind, name = titles[which].split()
    skip = 0 if kind == "Model" else 1  # the survey itself describes endpoints and configurations
    with scene.server.fault("hold", action=f"Describe{kind}", resource=name, skip=skip) as held:

        def renew() -> None:
            until(lambda: held.rule["holding"], bool)
            scene.renew(titles[which])
            held.release()

        with steps.meanwhile(renew):
            record = scene.sweep()
    assert reasons(record)[titles[which]] == "its lease has not ended"
    assert record["deleted"] == titles[:which]
    assert scene.there(*titles) == record["kept"] == titles[which:]
    assert record["failed"] == []


def test_a_configuration_that_an_endpoint_takes_up_between_listing_and_deleting_is_kept(scene: Scene) -> None:
    name = scene.name()
    made = scene.model(name, scene.tags())
    config = scene.config(name, [made], scene.tags())
    with scene.server.fault("hold", action="DescribeEndpointConfig", resource=config, skip=1) as held:

        def deploy() -> None:
            until(lambda: held.rule["holding"], bool)
            scene.create(name, config, scene.tags(FUTURE))
            held.release()

        with steps.meanwhile(deploy):
            record = scene.sweep()
    assert record["deleted"] == []
    assert reasons(record)[f"EndpointConfig {config}"] == f"Endpoint {name} uses it"
    assert scene.there(f"EndpointConfig {config}", f"Model {made}") == record["kept"]


def test_what_somebody_else_deletes_meanwhile_is_no_error(scene: Scene) -> None:
    titles = scene.endpoint()
    model_name = titles[2].split()[1]
    with scene.server.fault("hold", action="DescribeModel", resource=model_name) as held:

        def delete() -> None:
            until(lambda: held.rule["holding"], bool)
            scene.boto.delete_model(ModelName=model_name)
            held.release()

        with steps.meanwhile(delete):
            record = scene.sweep()
    assert (record["deleted"], record["kept"], record["failed"]) == (titles[:2], [], [])
    assert "gone: its lease has ended" in render(record)[2]


def test_an_endpoint_that_comes_up_is_waited_for_and_then_deleted(scene: Scene) -> None:
    name = scene.name()
    made = scene.model(name, scene.tags())
    config = scene.config(name, [made], scene.tags())
    with scene.server.fault("stuck", action="CreateEndpoint", resource=name) as stuck:
        scene.create(name, config, scene.tags())
        begun = len(scene.server.requests())

        def release() -> None:
            until(lambda: steps.actions(scene.server, begun).count("DescribeEndpoint") > 4, bool)
            stuck.release()

        with steps.meanwhile(release):
            record = scene.sweep()
    assert record["deleted"] == [f"Endpoint {name}", f"EndpointConfig {config}", f"Model {made}"]
    assert record["failed"] == []


def test_an_endpoint_that_does_not_come_up_is_left_with_its_parts_and_the_rest_is_deleted(scene: Scene) -> None:
    other = scene.endpoint()
    name = scene.name()
    made = scene.model(name, scene.tags())
    config = scene.config(name, [made], scene.tags())
    titles = [f"Endpoint {name}", f"EndpointConfig {config}", f"Model {made}"]
    with scene.server.fault("stuck", action="CreateEndpoint", resource=name):
        scene.create(name, config, scene.tags())
        record = scene.sweep(wait=4.0)  # the other one is waited for too, until it is gone
        assert record["deleted"] == other
        assert record["failed"] == [f"Endpoint {name} is still Creating: the next sweep takes it."]
        assert scene.there(*titles) == record["kept"] == titles
    assert scene.sweep()["deleted"] == titles


def test_a_denied_deletion_names_the_action_and_the_rest_is_deleted(scene: Scene) -> None:
    first, second = scene.endpoint(), scene.endpoint()
    with scene.server.fault("denied", action="DeleteEndpoint", resource=first[0].split()[1], times=0):
        record = scene.sweep()
    assert record["deleted"] == second
    assert record["kept"] == first
    [failed] = record["failed"]
    assert "not authorized to perform: sagemaker:DeleteEndpoint" in failed
    assert reasons(record)[first[0]] == "its lease has ended, but it could not be deleted"
    assert reasons(record)[first[1]] == f"{first[0]} uses it"
    assert scene.sweep()["deleted"] == first


def test_what_has_tags_that_cannot_be_read_is_left_and_said(scene: Scene) -> None:
    first, second = scene.endpoint(), scene.endpoint()
    with scene.server.fault("denied", action="ListTags", resource=first[0].split()[1], times=0):
        record = scene.sweep()
    assert first[0] not in reasons(record)
    assert set(second) <= set(record["deleted"])
    for title, failed in zip(first, record["failed"], strict=True):
        assert failed.startswith(f"Whose {title} is cannot be told")
        assert "sagemaker:ListTags" in failed
    assert scene.there(first[0], first[1], first[2]) == first


def test_an_endpoint_that_may_not_be_described_keeps_all_parts(scene: Scene) -> None:
    titles, strangers = scene.endpoint(), steps.create_endpoint(scene.server)
    with scene.server.fault("denied", action="DescribeEndpoint", resource=strangers, times=0):
        record = scene.sweep()
    assert record["deleted"] == titles[:1]
    assert reasons(record)[titles[1]] == f"what Endpoint {strangers} uses could not be told"
    assert ["sagemaker:DescribeEndpoint" in each for each in record["failed"]] == [True]
    steps.clean_up(scene.server, strangers)
    assert scene.sweep()["deleted"] == titles[1:]


def test_models_are_kept_where_a_configuration_leaves_its_models_to_inference_components(scene: Scene) -> None:
    titles, strangers = scene.endpoint(), steps.create_endpoint(scene.server)

    class Components(SageMakerClient):
        """Says that the stranger's variant names no model, which the local SageMaker does not do."""

        def describe(self, kind: str, name: str) -> dict[str, Any] | None:
            answer = super().describe(kind, name)
            if kind == "EndpointConfig" and name == strangers and answer:
                answer["ProductionVariants"] = [{"VariantName": "AllTraffic", "InstanceType": "ml.m5.large"}]
            return answer

    record = sweep(Components(scene.boto), scene.namespace, delete=True, **QUICK)
    steps.clean_up(scene.server, strangers)
    assert (record["deleted"], record["kept"], record["failed"]) == (titles[:2], titles[2:], [])
    assert reasons(record)[titles[2]] == f"what EndpointConfig {strangers} uses could not be told"
    assert scene.sweep()["deleted"] == titles[2:]


def test_what_goes_between_the_second_look_and_its_tags_is_no_error(scene: Scene) -> None:
    titles = scene.endpoint()
    model_name = titles[2].split()[1]
    with scene.server.fault("hold", action="ListTags", resource=model_name, skip=1) as held:  # the survey's is first

        def delete() -> None:
            until(lambda: held.rule["holding"], bool)
            scene.boto.delete_model(ModelName=model_name)
            held.release()

        with steps.meanwhile(delete):
            record = scene.sweep()
    assert (record["deleted"], record["kept"], record["failed"]) == (titles[:2], [], [])


def test_a_running_job_whose_lease_has_ended_is_stopped_and_marked(scene: Scene, tmp_path: Path) -> None:
    flag = tmp_path / "flag"
    expired, renewed = scene.job(flag), scene.job(flag, FUTURE)
    record = scene.sweep()
    assert (record["deleted"], record["kept"]) == ([expired], [renewed])
    assert scene.status(expired) in ("Stopping", "Stopped")
    assert scene.status(renewed) == "InProgress"
    arn = scene.boto.describe_training_job(TrainingJobName=expired.split()[1])["TrainingJobArn"]
    assert steps.tags_of(scene.server, arn)["stopped-by"] == "sweep"
    assert "stopped: its lease has ended" in render(record)[0]
    flag.touch()


@pytest.mark.parametrize(("state", "stopped"), [(ALIVE, False), (ENDED, True), (GONE, True), ("", False)])
def test_a_running_job_whose_run_is_over_is_stopped_though_its_lease_is_not(
    scene: Scene, tmp_path: Path, state: str, stopped: bool
) -> None:
    job = scene.job(tmp_path / "flag", FUTURE)
    asked = []

    def run_state(dag: str, run: str) -> str:
        asked.append((dag, run))
        return state

    record = scene.sweep(run_state=run_state)
    assert set(asked) == {("d", "r")}
    assert record["deleted"] == ([job] if stopped else [])
    (tmp_path / "flag").touch()


def test_a_run_that_was_cleared_between_listing_and_stopping_keeps_its_job(scene: Scene, tmp_path: Path) -> None:
    job = scene.job(tmp_path / "flag", FUTURE)
    states = iter([ENDED, ALIVE])
    record = scene.sweep(run_state=lambda dag, run: next(states))
    assert (record["deleted"], record["kept"]) == ([], [job])
    assert reasons(record)[job] == "its run has not ended"
    (tmp_path / "flag").touch()


def test_no_run_is_asked_for_that_a_tag_does_not_name_whole(scene: Scene, tmp_path: Path) -> None:
    job = scene.job(tmp_path / "flag", FUTURE, run="r" * 300)
    asked: list[str] = []
    record = scene.sweep(run_state=lambda dag, run: asked.append(run) or GONE)  # type: ignore[func-returns-value]
    assert (record["kept"], asked) == ([job], [])
    (tmp_path / "flag").touch()


def test_more_than_a_page_is_swept_and_a_name_without_our_form_costs_no_call(scene: Scene) -> None:
    name = scene.name()
    made = [scene.model(name, scene.tags(), f"content {number}") for number in range(105)]
    foreign = unique("Foreign")
    scene.boto.create_model(**{**model(scene.server), "ModelName": foreign, "Tags": scene.tags()})
    begun = len(scene.server.requests())
    record = scene.sweep(delete=False)
    assert sorted(each["name"] for each in record["listed"]) == sorted(made)
    asked = [each for each in scene.server.requests()[begun:] if each["action"] == "ListTags"]
    assert [each for each in asked if foreign in str(each["resource"])] == []
    assert len(scene.sweep()["deleted"]) == 105
    scene.boto.delete_model(ModelName=foreign)
