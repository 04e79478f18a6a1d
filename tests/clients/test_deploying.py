"""An endpoint comes to serve what was asked for, or it is said why not, whatever others do meanwhile."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from botocore.config import Config

from airflow_sm_git.clients.deploying import Deployment
from airflow_sm_git.clients.endpoint_log import log_end
from airflow_sm_git.clients.sagemaker import SageMakerClient
from airflow_sm_git.core import errors
from airflow_sm_git.core.deployment import DeploySpec, deploy_requests
from airflow_sm_git.core.names import make_tags
from airflow_sm_git.core.rollout import Asked
from airflow_sm_git.local.pytest_plugin import LocalSageMaker
from tests import steps
from tests.local.sagemaker_requests import IMAGE, ROLE, settled, unique, until

TAGS = make_tags({"namespace": "tests"})
ONCE = Config(retries={"total_max_attempts": 1}, read_timeout=60)
LOST = 0  # the status of a request that was accepted and not answered
MUTATING = ("Create", "Update", "Delete", "AddTags")


class Meddled(SageMakerClient):
    """A client during whose work something else happens.

    :param before: what to do before the first call of an action.
    :param seen: what DescribeEndpoint says first, in this order, over what the server says.
    """

    def __init__(
        self, boto: Any, before: dict[str, Callable[[], Any]] | None = None, seen: list[dict[str, Any]] | None = None
    ) -> None:
        super().__init__(boto)
        self._before = before or {}
        self._seen = seen or []

    def call(self, operation: str, /, **request: Any) -> dict[str, Any]:
        if act := self._before.pop(operation, None):
            act()
        return super().call(operation, **request)

    def describe(self, kind: str, name: str) -> dict[str, Any] | None:
        answer = super().describe(kind, name)
        if kind == "Endpoint" and answer and self._seen:
            return {**answer, **self._seen.pop(0)}
        return answer


class Scene:
    """A standing endpoint's name, and deployments to it."""

    def __init__(self, server: LocalSageMaker) -> None:
        self.server = server
        self.name = unique("standing")
        self.boto = server.client("sagemaker", config=ONCE)
        self.logged: list[str] = []

    def deployment(
        self,
        weights: str,
        client: SageMakerClient | None = None,
        killed: Callable[[], bool] = lambda: False,
        tags: list[dict[str, str]] = TAGS,
        **changes: Any,
    ) -> Deployment:
        """A deployment of a model with these weights."""
        spec = DeploySpec(
            endpoint_name=self.name,
            image_uri=IMAGE,
            role=ROLE,
            region="us-east-1",
            model_data=steps.model_data(self.server, weights),
            package=steps.package(self.server),
            entry_point="serve.py",
            hosting="s3",
        )
        return Deployment(
            client or SageMakerClient(self.boto),
            deploy_requests(replace(spec, **changes), tags),
            log=lambda text, *arguments: self.logged.append(text % arguments),
            log_end=lambda reason: log_end(self.server.client("logs"), self.name, reason),
            killed=killed,
        )

    def wait(self, asked: Asked | None = None) -> None:
        """Wait until the endpoint is not busy."""
        SageMakerClient(self.boto).wait("Endpoint", self.name, check_interval=0.02, deadline=time.time() + 60)

    def deploy(
        self, weights: str, client: SageMakerClient | None = None, keep: int | None = 2, **changes: Any
    ) -> dict[str, Any]:
        """Deploy as a task does, to the end."""
        deployment = self.deployment(weights, client, **changes)
        endpoint, serves = deployment.settle(None, wait=self.wait)
        assert serves
        deployment.finish(endpoint, "tests", keep)
        return endpoint

    def live(self) -> str:
        """The live configuration."""
        endpoint = settled(self.server, self.name)
        assert endpoint["EndpointStatus"] == "InService"
        return str(endpoint["EndpointConfigName"])

    def configs(self) -> set[str]:
        """The configurations that are there."""
        found = self.boto.list_endpoint_configs(NameContains=self.name)["EndpointConfigs"]
        return {each["EndpointConfigName"] for each in found}

    def accepted(self, since: int = 0) -> list[str]:
        """The calls about this endpoint and its parts that changed something, from a number on."""
        return [
            str(line["action"])
            for line in self.server.requests()[since:]
            if self.name in line["resource"] and line["action"].startswith(MUTATING) and line["status"] in (200, LOST)
        ]


@pytest.fixture
def scene(local_sagemaker: LocalSageMaker) -> Iterator[Scene]:
    made = Scene(local_sagemaker)
    yield made
    if local_sagemaker.client("sagemaker").list_endpoints(NameContains=made.name)["Endpoints"]:
        steps.clean_up(local_sagemaker, made.name)


def test_two_that_create_the_same_endpoint_at_once_get_what_they_asked_for_one_after_the_other(scene: Scene) -> None:
    first: list[dict[str, Any]] = []
    with scene.server.fault("hold", action="CreateEndpoint", resource=scene.name) as hold:
        late = threading.Thread(target=lambda: first.append(scene.deploy("late")))
        late.start()
        until(lambda: hold.rule["holding"], bool)
        early = scene.deploy("early")
        hold.release()
        late.join(60)
    assert early["EndpointConfigName"] == scene.deployment("early").config
    assert first[0]["EndpointConfigName"] == scene.live() == scene.deployment("late").config
    assert any("Another one changes the endpoint" in line for line in scene.logged)
    changes = scene.accepted()
    assert (changes.count("CreateEndpoint"), changes.count("UpdateEndpoint")) == (1, 1)


def test_two_that_ask_for_the_same_make_it_once(scene: Scene) -> None:
    done: list[dict[str, Any]] = []
    with scene.server.fault("hold", action="CreateModel", resource=scene.name) as hold:
        threads = [threading.Thread(target=lambda: done.append(scene.deploy("same"))) for _ in range(2)]
        threads[0].start()
        until(lambda: hold.rule["holding"], bool)
        threads[1].start()
        until(lambda: scene.accepted(), lambda changes: "CreateEndpoint" in changes)
        hold.release()
        for thread in threads:
            thread.join(60)
    assert [each["EndpointConfigName"] for each in done] == [scene.live()] * 2
    changes = scene.accepted()
    creations = ("CreateModel", "CreateEndpointConfig", "CreateEndpoint", "UpdateEndpoint")
    assert [changes.count(action) for action in creations] == [1, 1, 1, 0]


def test_an_update_that_comes_while_another_is_under_way_waits_for_it(scene: Scene, tmp_path: Path) -> None:
    scene.deploy("old")
    flag = tmp_path / "flag"
    other = scene.deployment("other", environment={"WAIT_FOR": str(flag)})
    other.settle(None, wait=scene.wait, to_the_end=False)
    waited: list[str] = []

    def wait(asked: Asked | None) -> None:
        waited.append(scene.boto.describe_endpoint(EndpointName=scene.name)["EndpointStatus"])
        flag.touch()
        scene.wait(asked)

    mine = scene.deployment("mine")
    endpoint, _ = mine.settle(None, wait=wait)
    assert waited[0] == "Updating"
    assert endpoint["EndpointConfigName"] == mine.config == scene.live()


def test_who_is_overtaken_says_so_and_does_not_turn_it_back(scene: Scene) -> None:
    scene.deploy("old")

    def wait(asked: Asked | None) -> None:
        scene.wait()
        scene.deploy("theirs")

    mine = scene.deployment("mine")
    with pytest.raises(errors.DeployOvertaken, match="somebody else has updated it meanwhile") as caught:
        mine.settle(None, wait=wait)
    assert not caught.value.retryable
    assert scene.live() == scene.deployment("theirs").config
    assert repr(scene.live()) in str(caught.value)


def test_an_endpoint_that_somebody_deletes_meanwhile_is_not_made_again(scene: Scene) -> None:
    def wait(asked: Asked | None) -> None:
        scene.wait()
        scene.boto.delete_endpoint(EndpointName=scene.name)
        until(lambda: scene.boto.list_endpoints(NameContains=scene.name)["Endpoints"], lambda found: not found)

    with pytest.raises(errors.DeployOvertaken, match="somebody deleted it") as caught:
        scene.deployment("mine").settle(None, wait=wait)
    assert not caught.value.retryable
    assert scene.accepted().count("CreateEndpoint") == 1


@pytest.mark.parametrize("standing", [False, True], ids=["create", "update"])
def test_a_configuration_that_somebody_deletes_before_it_is_used_is_made_again(scene: Scene, standing: bool) -> None:
    if standing:
        scene.deploy("old")
    config = scene.deployment("mine").config
    action = "UpdateEndpoint" if standing else "CreateEndpoint"
    meddled = Meddled(scene.boto, {action: lambda: scene.boto.delete_endpoint_config(EndpointConfigName=config)})
    assert scene.deploy("mine", meddled)["EndpointConfigName"] == config == scene.live()


def test_a_model_that_somebody_deletes_before_it_is_used_is_made_again(scene: Scene) -> None:
    def delete() -> None:
        for model in scene.boto.list_models(NameContains=scene.name)["Models"]:
            scene.boto.delete_model(ModelName=model["ModelName"])

    meddled = Meddled(scene.boto, {"CreateEndpointConfig": delete})
    assert scene.deploy("mine", meddled)["EndpointConfigName"] == scene.live()


def test_an_endpoint_that_is_deleted_before_it_is_updated_is_created(scene: Scene) -> None:
    scene.deploy("old")

    def delete() -> None:
        scene.boto.delete_endpoint(EndpointName=scene.name)
        until(lambda: scene.boto.list_endpoints(NameContains=scene.name)["Endpoints"], lambda found: not found)

    mine = scene.deploy("mine", Meddled(scene.boto, {"UpdateEndpoint": delete}))
    assert mine["EndpointConfigName"] == scene.live()


def test_maintenance_is_waited_for(scene: Scene) -> None:
    scene.deploy("old")
    waited: list[Asked | None] = []

    def wait(asked: Asked | None) -> None:
        waited.append(asked)
        scene.wait()

    maintained = Meddled(scene.boto, seen=[{"EndpointStatus": "SystemUpdating"}])
    mine = scene.deployment("mine", maintained)
    assert mine.settle(None, wait=wait)[0]["EndpointConfigName"] == scene.live() == mine.config
    assert waited[0] is None, "nothing had been asked for yet"


@pytest.mark.parametrize("status", ["OutOfService", "UpdateRollbackFailed"])
def test_an_endpoint_in_trouble_is_moved_on_but_none_that_got_into_it_by_our_doing_is_a_success(
    scene: Scene, status: str
) -> None:
    scene.deploy("old")
    trouble = {"EndpointStatus": status, "FailureReason": "Something broke."}
    assert scene.deploy("mine", Meddled(scene.boto, seen=[trouble]))["EndpointConfigName"] == scene.live()
    fine: dict[str, Any] = {}
    with pytest.raises(errors.DeployFailed, match=rf"is {status}: Something broke\.") as caught:
        scene.deploy("other", Meddled(scene.boto, seen=[fine, trouble]))
    assert caught.value.retryable


def test_weights_that_are_not_as_requested_after_the_update_are_a_failure_that_names_them(scene: Scene) -> None:
    wish = [{"VariantName": "AllTraffic", "DesiredWeight": 0.25}]

    def wait(asked: Asked | None) -> None:
        scene.wait()
        scene.boto.update_endpoint_weights_and_capacities(EndpointName=scene.name, DesiredWeightsAndCapacities=wish)
        scene.wait()

    mine = scene.deployment("mine")
    otherwise = "but not as requested: variant 'AllTraffic' has the desired weight 0.25, not 1"
    with pytest.raises(errors.DeployedOtherwise, match=otherwise) as caught:
        mine.settle(None, wait=wait)
    assert not caught.value.retryable
    with pytest.raises(errors.DeployedOtherwise, match=otherwise):
        scene.deploy("mine")  # another try, which finds what the first one has left


def test_a_configuration_that_was_right_once_is_not_taken_for_right_again(scene: Scene) -> None:
    scene.deploy("mine")
    scene.deploy("other")
    live = {"VariantName": "AllTraffic", "CurrentInstanceCount": 1, "CurrentWeight": 0.5, "DesiredWeight": 0.5}
    fine: dict[str, Any] = {}
    for seen in ([fine, {"ProductionVariants": [live]}], [{"ProductionVariants": [live]}]):
        with pytest.raises(errors.DeployedOtherwise, match=r"has the weight 0\.5, not 1"):
            scene.deploy("mine", Meddled(scene.boto, seen=seen))
    assert scene.deploy("mine")["EndpointConfigName"] == scene.live()


def test_a_later_deploy_that_may_take_it_for_right_is_warned_of(scene: Scene, caplog: pytest.LogCaptureFixture) -> None:
    scene.deploy("mine")
    scene.deploy("other")
    fine: dict[str, Any] = {}
    seen = [fine, {"ProductionVariants": [{"VariantName": "AllTraffic", "CurrentWeight": 0.5}]}]
    with scene.server.fault("denied", action="DeleteTags") as fault:
        with pytest.raises(errors.DeployedOtherwise):
            scene.deploy("mine", Meddled(scene.boto, seen=seen))
        assert fault.rule["hits"] == 1
    assert "may take" in caplog.text
    assert "sagemaker:DeleteTags" in caplog.text


@pytest.mark.parametrize("keep", [2, None], ids=["standing", "own"])
def test_weights_that_are_changed_after_the_deploy_are_left_so(scene: Scene, keep: int | None) -> None:
    wish = [{"VariantName": "AllTraffic", "DesiredWeight": 0.25}]
    scene.deploy("mine", keep=keep)
    scene.boto.update_endpoint_weights_and_capacities(EndpointName=scene.name, DesiredWeightsAndCapacities=wish)
    scene.wait()
    since = len(scene.server.requests())
    scene.deploy("mine", keep=keep)
    assert any("left so: variant 'AllTraffic' has the desired weight 0.25, not 1" in line for line in scene.logged)
    assert set(scene.accepted(since)) <= {"AddTags"}, "who changed them meant it"


def test_instances_that_are_missing_after_the_update_are_a_failure_that_names_them(scene: Scene) -> None:
    scene.deploy("old")
    live = {"VariantName": "AllTraffic", "CurrentInstanceCount": 1, "CurrentWeight": 1.0}
    fine: dict[str, Any] = {}
    short = Meddled(scene.boto, seen=[fine, {"ProductionVariants": [live]}])
    with pytest.raises(errors.DeployFailed, match="variant 'AllTraffic' has 1 instances of 3"):
        scene.deploy("mine", short, initial_instance_count=3)


def test_a_try_that_finds_its_update_under_way_waits_for_it_and_tells_of_its_rollback(
    scene: Scene, tmp_path: Path
) -> None:
    old = scene.deploy("old")["EndpointConfigName"]
    flag = tmp_path / "flag"
    changes: dict[str, Any] = {"environment": {"WAIT_FOR": str(flag), "NEEDS": str(tmp_path / "never")}}
    scene.deployment("mine", **changes).settle(None, wait=scene.wait, to_the_end=False)

    def wait(asked: Asked | None) -> None:
        flag.touch()
        scene.wait()

    with pytest.raises(errors.DeployRolledBack, match=f"rolled back to {old!r}, which serves on") as caught:
        scene.deployment("mine", **changes).settle(None, wait=wait)
    assert not caught.value.retryable
    assert "the model cannot be loaded" in str(caught.value)
    assert scene.accepted().count("UpdateEndpoint") == 1
    assert scene.live() == old


def test_a_rollback_without_a_reason_is_still_a_rollback(scene: Scene) -> None:
    old = scene.deploy("old")["EndpointConfigName"]
    fine: dict[str, Any] = {}
    silent = Meddled(scene.boto, seen=[fine, {"EndpointConfigName": old, "FailureReason": ""}])
    with pytest.raises(errors.DeployRolledBack, match=r"AWS gave no reason\."):
        scene.deploy("mine", silent)


@pytest.mark.parametrize("standing", [False, True], ids=["create", "update"])
def test_want_of_capacity_is_worth_another_try(scene: Scene, standing: bool) -> None:
    if standing:
        scene.deploy("old")
    with (
        scene.server.fault("capacity", action="*Endpoint", resource=scene.name),
        pytest.raises(errors.DeployFailed, match=r"InsufficientInstanceCapacity(.|\n)*Try again later") as caught,
    ):
        scene.deploy("mine")
    assert caught.value.retryable
    assert ("serves on" in str(caught.value)) == standing
    assert scene.deploy("mine")["EndpointConfigName"] == scene.live()


PARTS = ["CreateModel", "CreateEndpointConfig", "AddTags"]
POINTS = [
    *((False, action) for action in [*PARTS, "CreateEndpoint"]),
    *((True, action) for action in [*PARTS, "UpdateEndpoint"]),
]


@pytest.mark.parametrize("kind", ["unavailable", "lose"])
@pytest.mark.parametrize(("standing", "action"), POINTS, ids=[f"{'update' if s else 'create'} {a}" for s, a in POINTS])
def test_a_try_that_was_lost_at_any_call_is_made_up_for_by_the_next_and_a_third_changes_nothing(
    scene: Scene, standing: bool, action: str, kind: str
) -> None:
    if standing:
        scene.deploy("old")
    since = len(scene.server.requests())
    resource = "" if action == "AddTags" else scene.name
    with (
        scene.server.fault(kind, service="sagemaker", action=action, resource=resource),
        pytest.raises(errors.ServiceFault) as caught,
    ):
        scene.deploy("mine")
    assert caught.value.retryable
    assert scene.deploy("mine")["EndpointConfigName"] == scene.live()
    accepted = scene.accepted(since)
    wanted = ("CreateModel", "CreateEndpointConfig", "UpdateEndpoint" if standing else "CreateEndpoint")
    assert [accepted.count(each) for each in wanted] == [1, 1, 1]
    assert [line.get("fault") for line in scene.server.requests()[since:]].count(kind) == 1
    kept = 2 if standing else 1
    assert len(scene.boto.list_endpoint_configs(NameContains=scene.name)["EndpointConfigs"]) == kept
    assert len(scene.boto.list_models(NameContains=scene.name)["Models"]) == kept
    since = len(scene.server.requests())
    scene.deploy("mine")
    assert set(scene.accepted(since)) <= {"AddTags"}


def test_nothing_is_made_of_a_request_that_the_api_has_no_form_for(scene: Scene) -> None:
    since = len(scene.server.requests())
    with pytest.raises(errors.BadParameter, match="UpdateEndpoint"):
        scene.deploy("mine", deployment_config={"BlueGreenPolicy": {"Type": "ALL_AT_ONCE"}})
    assert scene.accepted(since) == []


def test_a_version_that_is_on_its_way_is_not_dropped(scene: Scene, tmp_path: Path) -> None:
    scene.deploy("one")
    flag = tmp_path / "flag"
    mine = scene.deployment("two")
    endpoint, _ = mine.settle(None, wait=scene.wait)
    theirs = scene.deployment("three", environment={"WAIT_FOR": str(flag)})
    theirs.settle(None, wait=scene.wait, to_the_end=False)
    mine.finish(endpoint, "tests", 1)
    left = scene.configs()
    flag.touch()
    assert left == {mine.config, theirs.config}
    assert scene.live() == theirs.config


def test_what_served_last_is_kept_besides_what_was_rolled_back_lately(scene: Scene, tmp_path: Path) -> None:
    scene.deploy("first")
    good = scene.deploy("good")["EndpointConfigName"]
    bad = scene.deployment("bad", environment={"NEEDS": str(tmp_path / "never")})
    with pytest.raises(errors.DeployRolledBack):
        bad.settle(None, wait=scene.wait)
    better = scene.deploy("better")["EndpointConfigName"]
    assert scene.configs() == {good, bad.config, better}
    assert len(scene.boto.list_models(NameContains=scene.name)["Models"]) == 3


def test_what_was_deployed_without_waiting_counts_as_having_served(scene: Scene) -> None:
    scene.deploy("waited for")
    since = len(scene.server.requests())
    other = scene.deployment("not waited for")
    other.settle(None, wait=scene.wait, to_the_end=False)
    assert scene.live() == other.config
    latest = scene.deploy("latest")["EndpointConfigName"]
    assert scene.configs() == {other.config, latest}
    assert scene.accepted(since).count("UpdateEndpoint") == 2


@pytest.mark.parametrize("action", ["DeleteEndpointConfig", "DeleteModel"])
@pytest.mark.parametrize("kind", ["denied", "unavailable", "lose"])
def test_old_versions_that_cannot_be_dropped_are_a_warning_and_dropped_by_the_next(
    scene: Scene, action: str, kind: str, caplog: pytest.LogCaptureFixture
) -> None:
    for weights in ("older", "old"):
        scene.deploy(weights)
    with scene.server.fault(kind, service="sagemaker", action=action, resource=scene.name):
        assert scene.deploy("mine")["EndpointConfigName"] == scene.live()
    [warning] = [each.getMessage() for each in caplog.records if each.levelname == "WARNING"]
    assert warning.startswith(f"Old versions of endpoint {scene.name} could not all be dropped")
    assert action in warning
    scene.deploy("mine")
    assert len(scene.configs()) == 2
    assert len(scene.boto.list_models(NameContains=scene.name)["Models"]) == 2


def test_the_lease_of_a_time_as_a_runs_own_is_gone_before_the_update_and_without_waiting_too(scene: Scene) -> None:
    arn = scene.deploy("old")["EndpointArn"]
    scene.boto.add_tags(ResourceArn=arn, Tags=make_tags({"lease-until": "2026-01-01T00:00:00Z"}))
    seen: list[dict[str, str]] = []
    meddled = Meddled(scene.boto, {"UpdateEndpoint": lambda: seen.append(steps.tags_of(scene.server, arn))})
    scene.deployment("mine", meddled).settle(None, wait=scene.wait, to_the_end=False)
    assert [set(tags) for tags in seen] == [{"namespace"}]


@pytest.mark.parametrize("to_the_end", [True, False])
def test_the_lease_of_an_own_endpoint_is_renewed_before_the_update(scene: Scene, to_the_end: bool) -> None:
    old, new = (make_tags({"namespace": "tests", "lease-until": f"20{year}-01-01T00:00:00Z"}) for year in (26, 27))
    arn = scene.deploy("old", keep=None, tags=old)["EndpointArn"]
    seen: list[str] = []
    meddled = Meddled(
        scene.boto, {"UpdateEndpoint": lambda: seen.append(steps.tags_of(scene.server, arn)["lease-until"])}
    )
    scene.deployment("mine", meddled, tags=new).settle(None, wait=scene.wait, to_the_end=to_the_end)
    assert seen == ["2027-01-01T00:00:00Z"]


def test_what_tags_tell_of_code_that_is_no_longer_served_is_taken_away(scene: Scene) -> None:
    arn = scene.deploy("old")["EndpointArn"]
    mine = {"Key": "team", "Value": "shop"}
    scene.boto.add_tags(ResourceArn=arn, Tags=[*make_tags({"commit": "c", "digest": "d", "stopped-by": "x"}), mine])
    code = {"SAGEMAKER_PROGRAM": "serve.py", "SAGEMAKER_SUBMIT_DIRECTORY": steps.package(scene.server)["s3_uri"]}
    scene.deploy("without a package", package=None, environment=code)
    assert steps.tags_of(scene.server, arn) == {"namespace": "tests", "stopped-by": "x"}
    assert mine in scene.boto.list_tags(ResourceArn=arn)["Tags"]


@pytest.mark.parametrize("at", ["Model", "EndpointConfig", "Endpoint"])
def test_nothing_more_is_made_once_the_task_is_killed(scene: Scene, at: str) -> None:
    killed: list[bool] = []
    meddled = Meddled(scene.boto, {f"Describe{at}": lambda: killed.append(True)})
    deployment = scene.deployment("mine", meddled, killed=lambda: bool(killed))
    with pytest.raises(errors.DeployFailed, match=f"The task was killed: Create{at} for endpoint") as caught:
        deployment.settle(None, wait=scene.wait)
    assert caught.value.retryable, "whoever has killed it may want it to go on: a worker that is drained"
    made = ["CreateModel", "CreateEndpointConfig", "CreateEndpoint"]
    assert scene.accepted() == made[: made.index(f"Create{at}")]


def test_two_that_find_a_failed_endpoint_replace_it_together(scene: Scene, tmp_path: Path) -> None:
    with pytest.raises(errors.DeployFailed):
        scene.deploy("bad", environment={"NEEDS": str(tmp_path / "never")})
    flag = tmp_path / "flag"
    theirs = scene.deployment("theirs", environment={"WAIT_FOR": str(flag)})

    def wait(asked: Asked | None) -> None:
        flag.touch()
        scene.wait()

    meddled = Meddled(
        scene.boto, {"DeleteEndpoint": lambda: theirs.settle(None, wait=lambda _: None, to_the_end=False)}
    )
    mine = scene.deployment("mine", meddled)
    assert mine.settle(None, wait=wait)[0]["EndpointConfigName"] == scene.live() == mine.config
    assert any("Another one changes the endpoint: DeleteEndpoint" in line for line in scene.logged)
