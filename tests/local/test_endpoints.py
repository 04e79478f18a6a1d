"""Endpoints: what they go through, what they answer, and that an update never leaves nobody answering."""

from __future__ import annotations

import json
import threading
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from botocore.exceptions import ClientError, WaiterError

from airflow_sm_git.local.pytest_plugin import LocalSageMaker
from tests.local.sagemaker_requests import HANDLER, IMAGE, client, config, settled, unique, until

ARN = "arn:aws:sagemaker:us-east-1:000000000000"
BROKEN = HANDLER.replace("return open", "raise RuntimeError('no such weights'); return open")


def gated(gate: Path) -> str:
    """A handler whose model loads once the file ``gate`` exists."""
    wait = (
        f"import pathlib, time\n    while not pathlib.Path({str(gate)!r}).exists(): time.sleep(0.01)\n    return open"
    )
    return HANDLER.replace("return open", wait, 1)


@pytest.fixture(scope="module")
def sagemaker(local_sagemaker: LocalSageMaker) -> Any:
    return client(local_sagemaker, "sagemaker")


@pytest.fixture
def create(local_sagemaker: LocalSageMaker, sagemaker: Any) -> Iterator[Any]:
    """Creates endpoints, and deletes them afterwards."""
    made = []

    def create(config_name: str, *, wait: bool = True, **more: Any) -> str:
        name = unique("endpoint")
        sagemaker.create_endpoint(EndpointName=name, EndpointConfigName=config_name, **more)
        made.append(name)
        if wait:
            settled(local_sagemaker, name)
        return name

    yield create
    for name in made:
        try:
            settled(local_sagemaker, name)
            sagemaker.delete_endpoint(EndpointName=name)
        except ClientError:
            continue  # the test deleted it


@pytest.fixture(scope="module")
def plain(local_sagemaker: LocalSageMaker) -> str:
    """A configuration of one model that works."""
    return config(local_sagemaker, "plain")


def ask(server: LocalSageMaker, endpoint: str, data: object = None, **more: Any) -> Any:
    answer = client(server, "sagemaker-runtime").invoke_endpoint(
        EndpointName=endpoint, Body=json.dumps(data or {}), ContentType="application/json", **more
    )
    return json.loads(answer["Body"].read())["model"]


def refused(call: Any, **request: Any) -> tuple[str, str]:
    with pytest.raises(ClientError) as caught:
        call(**request)
    error = caught.value.response["Error"]
    return error["Code"], error["Message"]


def test_an_endpoint_is_creating_then_in_service_then_deleting_then_gone(
    local_sagemaker: LocalSageMaker, sagemaker: Any, create: Any, tmp_path: Path
) -> None:
    gate = tmp_path / "gate"
    config_name = config(local_sagemaker, "w1", handler=gated(gate))
    name = create(config_name, wait=False, Tags=[{"Key": "a", "Value": "1"}])
    arn = f"{ARN}:endpoint/{name}"
    described = sagemaker.describe_endpoint(EndpointName=name)
    assert (described["EndpointStatus"], described["EndpointArn"]) == ("Creating", arn)
    assert described["EndpointConfigName"] == config_name
    assert described["PendingDeploymentSummary"]["EndpointConfigName"] == config_name
    assert "ProductionVariants" not in described
    busy = ("ValidationException", f'Cannot update in-progress endpoint "{arn}".')
    assert refused(sagemaker.delete_endpoint, EndpointName=name) == busy
    assert refused(sagemaker.update_endpoint, EndpointName=name, EndpointConfigName=config_name) == busy
    assert refused(client(local_sagemaker, "sagemaker-runtime").invoke_endpoint, EndpointName=name, Body=b"") == (
        "ValidationError",
        f"Endpoint {name} of account 000000000000 not found.",
    )
    gate.touch()
    sagemaker.get_waiter("endpoint_in_service").wait(EndpointName=name, WaiterConfig={"Delay": 1, "MaxAttempts": 60})
    described = sagemaker.describe_endpoint(EndpointName=name)
    assert described["ProductionVariants"] == [
        {
            "VariantName": "AllTraffic",
            "DeployedImages": [{"SpecifiedImage": IMAGE, "ResolvedImage": IMAGE}],
            "CurrentWeight": 1.0,
            "DesiredWeight": 1.0,
            "CurrentInstanceCount": 1,
            "DesiredInstanceCount": 1,
        }
    ]
    assert "PendingDeploymentSummary" not in described
    assert sagemaker.list_tags(ResourceArn=arn)["Tags"] == [{"Key": "a", "Value": "1"}]
    assert ask(local_sagemaker, name) == "w1"
    sagemaker.delete_endpoint(EndpointName=name)
    sagemaker.get_waiter("endpoint_deleted").wait(EndpointName=name, WaiterConfig={"Delay": 1, "MaxAttempts": 60})
    missing = ("ValidationException", f'Could not find endpoint "{arn}".')
    assert refused(sagemaker.describe_endpoint, EndpointName=name) == missing
    assert refused(sagemaker.delete_endpoint, EndpointName=name) == missing
    assert refused(sagemaker.update_endpoint, EndpointName=name, EndpointConfigName=config_name) == missing


def test_an_existing_name_in_any_case_and_a_missing_configuration_are_refused(
    sagemaker: Any, create: Any, plain: str
) -> None:
    name = create(plain, wait=False)
    taken = ("ValidationException", f'Cannot create already existing endpoint "{ARN}:endpoint/{name}".')
    for same in (name, name.upper()):
        assert refused(sagemaker.create_endpoint, EndpointName=same, EndpointConfigName=plain) == taken
    assert refused(sagemaker.create_endpoint, EndpointName="other", EndpointConfigName="no-config") == (
        "ValidationException",
        f'Could not find endpoint configuration "{ARN}:endpoint-config/no-config".',
    )


def test_a_model_that_does_not_load_fails_its_endpoint_which_can_only_be_deleted(
    local_sagemaker: LocalSageMaker, sagemaker: Any, create: Any, plain: str
) -> None:
    name = create(config(local_sagemaker, "w", handler=BROKEN))
    described = sagemaker.describe_endpoint(EndpointName=name)
    assert described["EndpointStatus"] == "Failed"
    assert described["FailureReason"] == (
        "The primary container for production variant AllTraffic did not pass the ping health check. "
        "Please check CloudWatch logs for this endpoint."
    )
    logs = client(local_sagemaker, "logs")
    events = logs.filter_log_events(logGroupName=f"/aws/sagemaker/Endpoints/{name}")["events"]
    assert any("no such weights" in event["message"] for event in events)
    with pytest.raises(WaiterError):
        sagemaker.get_waiter("endpoint_in_service").wait(EndpointName=name, WaiterConfig={"Delay": 1, "MaxAttempts": 2})
    assert "in status Failed" in refused(sagemaker.update_endpoint, EndpointName=name, EndpointConfigName=plain)[1]
    sagemaker.delete_endpoint(EndpointName=name)


def test_a_handler_that_raises_is_a_model_error_with_its_words_and_the_endpoint_goes_on(
    local_sagemaker: LocalSageMaker, create: Any, plain: str
) -> None:
    name = create(plain)
    runtime = client(local_sagemaker, "sagemaker-runtime")
    with pytest.raises(runtime.exceptions.ModelError) as caught:
        ask(local_sagemaker, name, {"raise": True})
    answer = caught.value.response
    assert answer["ResponseMetadata"]["HTTPStatusCode"] == 424
    assert answer["OriginalStatusCode"] == 500
    assert "the handler raised this" in answer["OriginalMessage"]
    assert answer["LogStreamArn"] == f"arn:aws:logs:us-east-1:000000000000:log-group:/aws/sagemaker/Endpoints/{name}"
    assert answer["Error"]["Message"].startswith("Received server error (500) from primary with message ")
    assert ask(local_sagemaker, name) == "plain"


ODD = """
import json
def model_fn(model_dir): ...
def transform_fn(model, data, content_type, accept, context):
    wish = json.loads(data)
    if "raise" in wish:
        raise ValueError(wish["raise"])
    context.set_response_status(wish.get("status", 200))
    return wish["body"], wish["type"]
"""


def test_an_answer_that_http_cannot_carry_is_a_model_error_that_shows_it(
    local_sagemaker: LocalSageMaker, create: Any
) -> None:
    name = create(config(local_sagemaker, "w", handler=ODD))
    runtime = client(local_sagemaker, "sagemaker-runtime")

    def answer(**wish: Any) -> Any:
        wish = {"body": "b", "type": "text/plain", **wish}
        return runtime.invoke_endpoint(EndpointName=name, Body=json.dumps(wish), ContentType="application/json")

    for wish, said in (
        ({"type": "a\r\nb: c"}, r"'a\r\nb: c'"),
        ({"type": "\u2603"}, r"'\u2603'"),
        ({"type": 5}, "5 (int), not a string"),
        ({"raise": "\ud800 is why"}, r"\ud800 is why"),
    ):
        with pytest.raises(runtime.exceptions.ModelError) as caught:
            answer(**wish)
        error = caught.value.response
        assert (error["ResponseMetadata"]["HTTPStatusCode"], error["OriginalStatusCode"]) == (424, 500)
        assert said in error["OriginalMessage"]
    assert answer(status=204)["Body"].read() == b""
    assert answer()["Body"].read() == b"b"


def test_content_types_and_attributes_reach_the_handlers_and_come_back(
    local_sagemaker: LocalSageMaker, create: Any, plain: str
) -> None:
    name = create(plain)
    runtime = client(local_sagemaker, "sagemaker-runtime")
    answer = runtime.invoke_endpoint(EndpointName=name, Body=b'{"a": 1}', ContentType="application/json", Accept="x/y")
    assert answer["ContentType"] == "application/json"
    assert answer["InvokedProductionVariant"] == "AllTraffic"
    assert json.loads(answer["Body"].read())["data"] == {"a": 1}
    assert refused(runtime.invoke_endpoint, EndpointName=name.upper(), Body=b"{}")[0] == "ValidationError"
    code, message = refused(runtime.invoke_endpoint, EndpointName=name, Body=b"{}", TargetVariant="other")
    assert (code, "Variant other not found" in message) == ("ValidationError", True)
    code, message = refused(runtime.invoke_endpoint, EndpointName=name, Body=b"{}", TargetModel="m.tar.gz")
    assert (code, "multi-model" in message) == ("ValidationError", True)


def test_an_update_serves_the_old_until_the_new_answers_and_no_request_fails(
    local_sagemaker: LocalSageMaker, sagemaker: Any, create: Any, plain: str, tmp_path: Path
) -> None:
    name = create(plain)
    gate, enough = tmp_path / "gate", threading.Event()
    answers: list[str] = []
    failures: list[Exception] = []

    def keep_asking() -> None:
        while not enough.is_set():
            try:
                answers.append(ask(local_sagemaker, name))
            except Exception as error:
                failures.append(error)
                return

    threads = [threading.Thread(target=keep_asking) for _ in range(3)]
    for thread in threads:
        thread.start()
    new = config(local_sagemaker, "new", handler=gated(gate))
    sagemaker.update_endpoint(EndpointName=name, EndpointConfigName=new)
    described = sagemaker.describe_endpoint(EndpointName=name)
    assert (described["EndpointStatus"], described["EndpointConfigName"]) == ("Updating", plain)
    assert described["PendingDeploymentSummary"]["EndpointConfigName"] == new
    assert ask(local_sagemaker, name) == "plain"
    assert refused(sagemaker.delete_endpoint, EndpointName=name)[1].startswith("Cannot update in-progress endpoint")
    gate.touch()
    described = settled(local_sagemaker, name)
    assert (described["EndpointStatus"], described["EndpointConfigName"]) == ("InService", new)
    assert ask(local_sagemaker, name) == "new"
    enough.set()
    for thread in threads:
        thread.join()
    assert not failures
    assert set(answers) <= {"plain", "new"}
    assert answers[0] == "plain"


def test_a_request_under_way_while_its_process_is_replaced_is_answered_by_that_process(
    local_sagemaker: LocalSageMaker, sagemaker: Any, create: Any, plain: str, tmp_path: Path
) -> None:
    gate, reached = tmp_path / "gate", tmp_path / "reached"
    wait = (
        f"import os, time\n    open({str(reached)!r}, 'w').close()\n"
        f"    while not os.path.exists({str(gate)!r}): time.sleep(0.01)\n    return {{"
    )
    name = create(config(local_sagemaker, "old", handler=HANDLER.replace("return {", wait, 1)))
    answers: list[str] = []
    thread = threading.Thread(target=lambda: answers.append(ask(local_sagemaker, name)))
    thread.start()
    until(reached.exists, bool)
    sagemaker.update_endpoint(EndpointName=name, EndpointConfigName=plain)
    settled(local_sagemaker, name)
    assert ask(local_sagemaker, name) == "plain"
    assert not answers
    gate.touch()
    thread.join()
    assert answers == ["old"]


def test_an_update_that_fails_is_rolled_back_says_why_and_the_old_serves_on(
    local_sagemaker: LocalSageMaker, sagemaker: Any, create: Any, plain: str
) -> None:
    name = create(plain)
    broken = config(local_sagemaker, "w", handler=BROKEN)
    sagemaker.update_endpoint(EndpointName=name, EndpointConfigName=broken)
    described = settled(local_sagemaker, name)
    assert (described["EndpointStatus"], described["EndpointConfigName"]) == ("InService", plain)
    assert "did not pass the ping health check" in described["FailureReason"]
    assert ask(local_sagemaker, name) == "plain"
    again = config(local_sagemaker, "again")
    sagemaker.update_endpoint(EndpointName=name, EndpointConfigName=again)
    described = settled(local_sagemaker, name)
    assert described["EndpointConfigName"] == again
    assert "FailureReason" not in described


def test_variants_share_the_traffic_by_weight_and_one_can_be_asked_by_name(
    local_sagemaker: LocalSageMaker, sagemaker: Any, create: Any
) -> None:
    two = config(local_sagemaker, "first", "second")
    name = create(two)
    assert ask(local_sagemaker, name, TargetVariant="v1") == "second"
    seen = Counter(ask(local_sagemaker, name) for _ in range(40))
    assert set(seen) == {"first", "second"}

    sagemaker.update_endpoint_weights_and_capacities(
        EndpointName=name,
        DesiredWeightsAndCapacities=[{"VariantName": "v0", "DesiredWeight": 0.0, "DesiredInstanceCount": 3}],
    )
    [v0, v1] = settled(local_sagemaker, name)["ProductionVariants"]
    assert (v0["CurrentWeight"], v0["CurrentInstanceCount"], v1["CurrentWeight"]) == (0.0, 3, 1.0)
    assert {ask(local_sagemaker, name) for _ in range(20)} == {"second"}
    _, message = refused(
        sagemaker.update_endpoint_weights_and_capacities,
        EndpointName=name,
        DesiredWeightsAndCapacities=[{"VariantName": "v9", "DesiredWeight": 1.0}],
    )
    assert 'Could not find variant "v9"' in message

    sagemaker.update_endpoint(EndpointName=name, EndpointConfigName=two, RetainAllVariantProperties=True)
    [v0, v1] = settled(local_sagemaker, name)["ProductionVariants"]
    assert (v0["CurrentWeight"], v0["CurrentInstanceCount"]) == (0.0, 3)
    sagemaker.update_endpoint(
        EndpointName=name,
        EndpointConfigName=two,
        RetainAllVariantProperties=True,
        ExcludeRetainedVariantProperties=[{"VariantPropertyType": "DesiredWeight"}],
    )
    [v0, v1] = settled(local_sagemaker, name)["ProductionVariants"]
    assert (v0["CurrentWeight"], v0["CurrentInstanceCount"]) == (1.0, 3)


def test_a_model_process_that_dies_is_started_again(
    local_sagemaker: LocalSageMaker, create: Any, tmp_path: Path
) -> None:
    suicidal = HANDLER.replace(
        'if data.get("raise"):', 'if data.get("die"):\n        import os; os._exit(1)\n    if 0:'
    )
    name = create(config(local_sagemaker, "w", handler=suicidal))
    with pytest.raises(ClientError) as caught:
        ask(local_sagemaker, name, {"die": True})
    assert caught.value.response["Error"]["Code"] == "ModelError"

    def answer() -> str:
        try:
            return str(ask(local_sagemaker, name))
        except ClientError as error:
            return str(error.response["Error"]["Code"])

    assert until(answer, lambda said: said != "ModelError") == "w"


def test_nothing_of_a_deleted_endpoint_runs_or_lies_about(
    local_sagemaker: LocalSageMaker, sagemaker: Any, create: Any, plain: str
) -> None:
    before = {process.pid for process in local_sagemaker.processes()}
    name = create(plain)
    its = {process.pid for process in local_sagemaker.processes()} - before
    assert its
    sagemaker.delete_endpoint(EndpointName=name)
    until(lambda: refusal(sagemaker, name), lambda text: "Could not find endpoint" in text)
    assert not ({process.pid for process in local_sagemaker.processes()} & its)
    assert not list((local_sagemaker.root / "endpoints").glob(f"{name}-*"))


def refusal(sagemaker: Any, name: str) -> str:
    try:
        return str(sagemaker.describe_endpoint(EndpointName=name)["EndpointStatus"])
    except ClientError as error:
        return str(error)


EXITS = "raise SystemExit(3)"


@pytest.mark.parametrize(
    ("case", "reason"),
    [
        ("raises", "The primary container for production variant AllTraffic did not pass the ping health check."),
        ("exits", "The primary container for production variant AllTraffic did not pass the ping health check."),
        ("no data", 'Failed to download model data for container "container_1" from URL: "s3://'),
        ("no capacity", "Unable to provision requested ML compute capacity due to InsufficientInstanceCapacity error."),
    ],
)
def test_whatever_keeps_the_new_from_coming_up_the_old_serves_on_and_a_first_one_fails(
    local_sagemaker: LocalSageMaker, sagemaker: Any, create: Any, plain: str, case: str, reason: str
) -> None:
    bad = config(local_sagemaker, "w", handler={"raises": BROKEN, "exits": EXITS}.get(case, HANDLER))
    if case == "no data":
        [broken] = sagemaker.describe_endpoint_config(EndpointConfigName=bad)["ProductionVariants"]
        container = sagemaker.describe_model(ModelName=broken["ModelName"])["PrimaryContainer"]
        bucket, _, key = container["ModelDataUrl"].removeprefix("s3://").partition("/")
        client(local_sagemaker, "s3").delete_object(Bucket=bucket, Key=key)
    name = create(plain)
    rules = [local_sagemaker.fault("capacity", action=f"{a}Endpoint") for a in ("Create", "Update")]
    if case != "no capacity":
        for rule in rules:
            rule.end()
    sagemaker.update_endpoint(EndpointName=name, EndpointConfigName=bad)
    described = settled(local_sagemaker, name)
    assert (described["EndpointStatus"], described["EndpointConfigName"]) == ("InService", plain)
    assert described["FailureReason"].startswith(reason)
    assert ask(local_sagemaker, name) == "plain"
    first = settled(local_sagemaker, create(bad))
    for rule in rules:
        if case == "no capacity":
            rule.end()
    assert first["EndpointStatus"] == "Failed"
    assert first["FailureReason"].startswith(reason)


def test_an_update_is_not_over_before_its_waits_are(
    local_sagemaker: LocalSageMaker, sagemaker: Any, create: Any, plain: str
) -> None:
    name = create(plain)
    routing = {"Type": "ALL_AT_ONCE", "WaitIntervalInSeconds": 1}
    policy = {"TrafficRoutingConfiguration": routing, "TerminationWaitInSeconds": 1}
    new = config(local_sagemaker, "new")
    sagemaker.update_endpoint(
        EndpointName=name, EndpointConfigName=new, DeploymentConfig={"BlueGreenUpdatePolicy": policy}
    )
    until(lambda: ask(local_sagemaker, name), lambda said: said == "new")
    described = sagemaker.describe_endpoint(EndpointName=name)
    assert (described["EndpointStatus"], described["EndpointConfigName"]) == ("Updating", plain)
    described = settled(local_sagemaker, name)
    assert (described["EndpointConfigName"], ask(local_sagemaker, name)) == (new, "new")
    assert described["LastDeploymentConfig"]["BlueGreenUpdatePolicy"] == policy


def test_no_request_fails_while_an_update_brings_variants_of_other_names(
    local_sagemaker: LocalSageMaker, sagemaker: Any, create: Any, plain: str
) -> None:
    name = create(plain)
    two = config(local_sagemaker, "first", "second")
    policy = {
        "TrafficRoutingConfiguration": {"Type": "ALL_AT_ONCE", "WaitIntervalInSeconds": 1},
        "TerminationWaitInSeconds": 0,
    }
    sagemaker.update_endpoint(
        EndpointName=name, EndpointConfigName=two, DeploymentConfig={"BlueGreenUpdatePolicy": policy}
    )
    seen = set()
    while sagemaker.describe_endpoint(EndpointName=name)["EndpointStatus"] == "Updating":
        seen.add(ask(local_sagemaker, name))
    assert seen <= {"plain", "first", "second"}
    assert len(seen) > 1, "asked during the switch"
