"""Deploy: an endpoint serves what it is said to serve."""

from __future__ import annotations

import json
import os
import re
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from airflow_sm_git import DeployOperator, GitCheckoutOperator, PackageSourceOperator
from airflow_sm_git.core.errors import DeployTimedOut
from airflow_sm_git.local.pytest_plugin import LocalSageMaker
from tests import steps
from tests.airflow_runner import Run, Runner
from tests.git_server import Repository
from tests.local.sagemaker_requests import BUCKET, archive, client, put, unique, until
from tests.snippets import Page

WAITING = [pytest.param(False, id="in the worker"), pytest.param(True, id="deferred")]


@pytest.fixture
def server(local_sagemaker: LocalSageMaker) -> LocalSageMaker:
    return local_sagemaker


Deploy = Callable[..., Run]


def job(**members: Any) -> dict[str, Any]:
    """The record of a training job of which only some is told."""
    rest = (
        "job_arn",
        "commit",
        "digest",
        "metrics",
        "billable_seconds",
        "started_at",
        "ended_at",
        "region",
        "attached",
    )
    return {**dict.fromkeys(rest), "schema": 1, "job_name": "a-job", **members}


@pytest.fixture
def deploy(airflow: Runner, server: LocalSageMaker) -> Iterator[Deploy]:
    """Runs one deploy; what it leaves is removed afterwards."""
    names: set[str] = set()

    def run_deploy(conf: dict[str, Any] | None = None, **options: Any) -> Run:
        with airflow.dag() as dag:
            defaults = {"package": steps.package(server), "model_data": steps.model_data(server)}
            steps.deploy(**{**defaults, **options})
        run = airflow.run(dag, conf)
        prefixes = {dag.dag_id.replace("_", "-"), options.get("endpoint_name", "")}
        for prefix in (each for each in prefixes if re.fullmatch("[a-zA-Z0-9-]+", each)):
            found = client(server, "sagemaker").list_endpoints(NameContains=prefix)["Endpoints"]
            names.update(endpoint["EndpointName"] for endpoint in found)
        return run

    yield run_deploy
    for name in names:
        steps.clean_up(server, name)


def ask(server: LocalSageMaker, endpoint: str, body: Any = "hi") -> dict[str, Any]:
    runtime = client(server, "sagemaker-runtime")
    answer = runtime.invoke_endpoint(EndpointName=endpoint, Body=json.dumps(body), ContentType="application/json")
    return json.loads(answer["Body"].read())


@pytest.mark.parametrize("deferrable", WAITING)
def test_an_endpoint_of_the_run_serves_the_model_with_the_package(
    deploy: Deploy, server: LocalSageMaker, deferrable: bool
) -> None:
    run = deploy(deferrable=deferrable)
    assert run.state == "success", run.errors
    record, package = run.xcom("deploy"), steps.package(server)
    live = client(server, "sagemaker").describe_endpoint(EndpointName=record["endpoint_name"])
    config = client(server, "sagemaker").describe_endpoint_config(EndpointConfigName=live["EndpointConfigName"])
    assert record == {
        "schema": 1,
        "endpoint_name": live["EndpointName"],
        "endpoint_arn": live["EndpointArn"],
        "endpoint_config_name": live["EndpointConfigName"],
        "model_name": config["ProductionVariants"][0]["ModelName"],
        "commit": package["commit"],
        "digest": package["digest"],
        "region": "us-east-1",
        "owned": True,
        "lease_until": steps.tags_of(server, live["EndpointArn"])["lease-until"],
    }
    assert record["endpoint_name"].startswith(run.dag.dag_id.replace("_", "-"))
    assert set(run.deferrals) == ({"deploy"} if deferrable else set())
    assert ask(server, record["endpoint_name"])["by"] == "serve"
    assert run.xcom("deploy", "sm_git_endpoint_link").endswith(f"#/endpoints/{record['endpoint_name']}")


def test_model_configuration_and_endpoint_say_whose_they_are_and_what_they_serve(
    deploy: Deploy, server: LocalSageMaker
) -> None:
    record = deploy(owner="ada").xcom("deploy")
    sagemaker, package = client(server, "sagemaker"), steps.package(server)
    model = sagemaker.describe_model(ModelName=record["model_name"])
    config = sagemaker.describe_endpoint_config(EndpointConfigName=record["endpoint_config_name"])
    for arn in (model["ModelArn"], config["EndpointConfigArn"], record["endpoint_arn"]):
        tags = steps.tags_of(server, arn)
        wanted = {"namespace": "default", "owner": "ada", "lease-until": record["lease_until"]}
        assert tags.items() >= {**wanted, "commit": package["commit"], "digest": package["digest"]}.items()
    environment = model["PrimaryContainer"]["Environment"]
    assert environment["SM_GIT_COMMIT"] == package["commit"]


def test_deploying_again_changes_nothing(airflow: Runner, deploy: Deploy, server: LocalSageMaker) -> None:
    run = deploy()
    before, asked = run.xcom("deploy"), len(server.requests())
    airflow.go_on(airflow.clear(run, "deploy"))
    changes = {a for a in steps.actions(server, asked) if a.startswith(("Create", "Update", "Delete", "Put"))}
    assert changes == set()
    again = run.xcom("deploy")
    assert {**again, "lease_until": ""} == {**before, "lease_until": ""}


def test_a_retry_goes_on_where_the_first_try_was_lost(deploy: Deploy, server: LocalSageMaker) -> None:
    def crash(context: Any, result: Any) -> None:
        if context["ti"].try_number == 1:
            context["task"].wait_for_completion = True
            raise ConnectionError("the worker is gone")

    asked = len(server.requests())
    run = deploy(wait_for_completion=False, post_execute=crash, retries=1)
    assert run.state == "success", run.errors
    done = steps.actions(server, asked)
    assert [done.count(a) for a in ("CreateModel", "CreateEndpointConfig", "CreateEndpoint")] == [1, 1, 1]


def test_a_standing_endpoint_is_updated_and_its_old_versions_dropped(deploy: Deploy, server: LocalSageMaker) -> None:
    name = unique("standing")
    records = []
    for weights in ("one", "two", "three"):
        run = deploy(endpoint_name=name, model_data=steps.model_data(server, weights), keep_versions=2)
        assert run.state == "success", run.errors
        records.append(run.xcom("deploy"))
        assert ask(server, name)["model"] == weights
    sagemaker = client(server, "sagemaker")
    configs = sagemaker.list_endpoint_configs(NameContains=name)["EndpointConfigs"]
    models = sagemaker.list_models(NameContains=name)["Models"]
    assert {each["EndpointConfigName"] for each in configs} == {r["endpoint_config_name"] for r in records[1:]}
    assert {each["ModelName"] for each in models} == {r["model_name"] for r in records[1:]}
    assert [(record["owned"], record["lease_until"]) for record in records] == [(False, None)] * 3
    tags = steps.tags_of(server, records[0]["endpoint_arn"])
    assert tags["run"] == run.run_id, "the tags tell of what is live"
    assert "lease-until" not in tags, "no sweep may take a standing endpoint"


@pytest.mark.parametrize("deferrable", WAITING)
def test_an_update_that_is_rolled_back_fails_with_the_reason_and_the_old_model_serves_on(
    deploy: Deploy, server: LocalSageMaker, tmp_path: Path, deferrable: bool
) -> None:
    name = unique("standing")
    old = deploy(endpoint_name=name, model_data=steps.model_data(server, "old")).xcom("deploy")
    run = deploy(
        endpoint_name=name,
        model_data=steps.model_data(server, "new"),
        environment={"NEEDS": str(tmp_path / "never")},
        deferrable=deferrable,
        retries=1,
    )
    error = str(run.errors["deploy"])
    assert run.state == "failed"
    assert f"rolled back to '{old['endpoint_config_name']}', which serves on" in error
    assert "did not pass the ping health check" in error
    assert "model_fn is the usual cause" in error
    assert ask(server, name)["model"] == "old"


RAISES = steps.SERVE.replace(
    "def model_fn(model_dir):", "def model_fn(model_dir):\n    raise OSError('no such weights')"
)


@contextmanager
def asked_ten_times_a_second(server: LocalSageMaker, endpoint: str) -> Iterator[list[str]]:
    """Ask an endpoint while the block runs; the answers, or the errors instead."""
    answers: list[str] = []
    enough = threading.Event()

    def keep_asking() -> None:
        while not enough.wait(0.1):
            try:
                answers.append(ask(server, endpoint)["model"])
            except Exception as error:
                answers.append(repr(error))

    with steps.meanwhile(keep_asking):
        try:
            yield answers
        finally:
            enough.set()


@pytest.mark.parametrize("deferrable", WAITING)
def test_a_commit_whose_model_fn_raises_is_a_red_task_with_the_reason_and_no_client_notices(
    airflow: Runner, repository: Repository, server: LocalSageMaker, deferrable: bool
) -> None:
    name = unique("standing")
    # Sleeps, so that there is something to notice; and tells a secret, which must go no further.
    sleeps = RAISES.replace("    raise", "    time.sleep(2)\n    print('token', os.environ['API_TOKEN'])\n    raise")

    def run(weights: str) -> Run:
        with airflow.dag() as dag:
            checkout = GitCheckoutOperator(task_id="checkout", repo=repository.url, ref="main")
            package = PackageSourceOperator(
                task_id="package", checkout=checkout.output, source_dir="src", entry_point="serve.py"
            )
            model_data = steps.model_data(server, weights)
            options = {"endpoint_name": name, "model_data": model_data, "retries": 3, "deferrable": deferrable}
            steps.deploy(package=package.output, environment={"API_TOKEN": "hunter-2"}, **options)
        return airflow.run(dag)

    talks = steps.SERVE.replace("    text = body", "    print('asked of the old')\n    text = body")
    repository.commit({"src/serve.py": talks.encode()})
    good = run("old")
    assert good.state == "success", good.errors
    repository.commit({"src/serve.py": sleeps.encode()}, subject="break it")
    since = len(server.requests())
    with asked_ten_times_a_second(server, name) as answers:
        bad = run("new")
    asked = len(answers)
    live = client(server, "sagemaker").describe_endpoint(EndpointName=name)
    steps.clean_up(server, name)
    assert set(answers) == {"old"}
    assert asked > 10, "over two seconds"
    assert bad.state == "failed"
    assert bad.states == {"checkout": "success", "package": "success", "deploy": "failed"}
    old = good.xcom("deploy")["endpoint_config_name"]
    assert (live["EndpointStatus"], live["EndpointConfigName"]) == ("InService", old)
    error = str(bad.errors["deploy"])
    assert error == bad.xcom("deploy", "error")
    assert f"Endpoint {name!r} was rolled back to {old!r}, which serves on: The primary container" in error
    assert f"log group is /aws/sagemaker/Endpoints/{name}" in error
    assert "OSError: no such weights" in error
    assert "token ***" in error
    assert "hunter-2" not in error
    assert "asked of the old" not in error, "the old one's log is no reason"
    assert "model_fn is the usual cause" in error
    assert steps.actions(server, since).count("UpdateEndpoint") == 1, "three retries would not have made it better"


@pytest.mark.parametrize("deferrable", WAITING)
def test_an_endpoint_that_fails_is_replaced_by_the_next_try(
    deploy: Deploy, server: LocalSageMaker, tmp_path: Path, deferrable: bool
) -> None:
    needed = tmp_path / "needed"

    def provide(context: Any) -> None:
        if context["ti"].try_number == 2:
            needed.touch()

    options = {"environment": {"NEEDS": str(needed)}, "deferrable": deferrable}
    run = deploy(**options, retries=1, pre_execute=provide)
    assert run.state == "success", run.errors
    assert "is Failed: " in run.log
    assert "did not pass the ping health check" in run.log
    assert ask(server, run.xcom("deploy")["endpoint_name"])["model"] == "w"


@pytest.mark.parametrize("deferrable", WAITING)
def test_an_endpoint_that_does_not_come_up_in_time_fails_the_task(
    deploy: Deploy, server: LocalSageMaker, tmp_path: Path, deferrable: bool
) -> None:
    flag = tmp_path / "flag"
    waiting = {"environment": {"WAIT_FOR": str(flag)}, "wait_timeout": timedelta(seconds=1)}
    run = deploy(**waiting, deferrable=deferrable)
    flag.touch()
    assert run.state == "failed"
    assert "was still Creating" in str(run.errors["deploy"])
    assert "Raise wait_timeout" in str(run.errors["deploy"])


@pytest.mark.parametrize("deferrable", WAITING)
def test_an_endpoint_that_is_stuck_is_left_alone_at_the_deadline_and_taken_up_by_the_next_try(
    airflow: Runner, deploy: Deploy, server: LocalSageMaker, deferrable: bool
) -> None:
    with server.fault("stuck", action="CreateEndpoint") as stuck:
        asked = len(server.requests())
        run = deploy(wait_timeout="{{ 1 if ti.try_number == 1 else 60 }}", deferrable=deferrable)
        assert run.state == "failed"
        error = str(run.errors["deploy"])
        assert "was still Creating" in error
        assert "it is left as it is" in error
        assert "a teardown with policy='always' deletes it, or airflow-sm-git sweep --delete --endpoint" in error
        assert not [action for action in steps.actions(server, asked) if action.startswith("Delete")]
        airflow.clear(run, "deploy")
        with steps.meanwhile(stuck.release):
            airflow.go_on(run)
    assert run.state == "success", run.errors
    creations = [each for each in server.requests()[asked:] if each["action"] == "CreateEndpoint"]
    assert [each.get("fault") for each in creations].count(None) == 1, "the other line is the fault's own"


def test_of_an_endpoint_that_is_still_being_deleted_it_is_not_said_that_it_is_left(server: LocalSageMaker) -> None:
    with pytest.raises(
        DeployTimedOut, match=r"'words' was still Deleting at .*Z\. .*try again when it is gone"
    ) as caught:
        steps.deploy(endpoint_name="words")._give_up("words", "Deleting", datetime.now(UTC))
    assert "left" not in str(caught.value)


def test_where_the_triggerer_cannot_wait_the_task_does_and_defers_no_second_time(
    deploy: Deploy, server: LocalSageMaker, tmp_path: Path
) -> None:
    flag = tmp_path / "flag"
    with server.fault("denied", action="ListEndpoints", times=2) as denied:

        def let_it_come_up() -> None:
            until(lambda: denied.rule["hits"], lambda hits: hits == 2)
            asked = len(server.requests())
            until(lambda: steps.actions(server, asked).count("DescribeEndpoint"), lambda looks: looks > 5)
            flag.touch()

        with steps.meanwhile(let_it_come_up):
            run = deploy(deferrable=True, environment={"WAIT_FOR": str(flag)})
    assert run.state == "success", run.errors
    assert run.deferrals == ["deploy"]
    assert "The triggerer could not wait" in run.log


def test_the_tasks_execution_timeout_bounds_the_wait_deferred_too(deploy: Deploy, server: LocalSageMaker) -> None:
    with server.fault("stuck", action="CreateEndpoint"):
        run = deploy(deferrable=True, execution_timeout=timedelta(seconds=2))
    assert "was still Creating" in str(run.errors["deploy"])


@pytest.mark.parametrize("held_at", ["CreateModel", "CreateEndpointConfig"])
def test_a_killed_task_makes_nothing_more(
    airflow: Runner, deploy: Deploy, server: LocalSageMaker, held_at: str
) -> None:
    asked = len(server.requests())
    with server.fault("hold", action=held_at) as held:

        def kill() -> None:
            until(lambda: held.rule["holding"], bool)
            os.kill(os.getpid(), signal.SIGTERM)  # what the supervisor sends; the task's process is this one
            held.release()

        with steps.meanwhile(kill):
            run = deploy()
    following = {"CreateModel": "CreateEndpointConfig", "CreateEndpointConfig": "CreateEndpoint"}[held_at]
    assert f"The task was killed: {following} for endpoint" in str(run.errors["deploy"])
    done = steps.actions(server, asked)
    assert held_at in done
    assert following not in done
    for model in client(server, "sagemaker").list_models(NameContains=run.dag.dag_id.replace("_", "-"))["Models"]:
        client(server, "sagemaker").delete_model(ModelName=model["ModelName"])


@pytest.mark.parametrize("given", ["{{ none }}", "None", ""])
def test_a_param_that_is_none_names_no_endpoint(deploy: Deploy, server: LocalSageMaker, given: str) -> None:
    run = deploy({}, endpoint_name=given or "{{ '' }}", endpoint_name_prefix=given)
    assert run.state == "success", run.errors
    record = run.xcom("deploy")
    assert record["owned"]
    assert record["endpoint_name"].startswith(f"{run.dag.dag_id.replace('_', '-')}-")
    assert record["lease_until"] == steps.tags_of(server, record["endpoint_arn"])["lease-until"]


def test_a_model_that_is_replaced_in_place_is_deployed_and_an_unchanged_one_is_not(
    deploy: Deploy, server: LocalSageMaker
) -> None:
    name, key = unique("standing"), unique("tests/model")
    bodies = {weights: archive({"weights.txt": weights}) for weights in ("one", "two")}  # each with its time in it
    records = []
    for weights in ("one", "two", "two"):
        data = put(server, bodies[weights], key)
        run = deploy(endpoint_name=name, hosting="s3", model_data=data)
        assert run.state == "success", run.errors
        assert ask(server, name)["model"] == weights
        records.append(run.xcom("deploy"))
    one, two, again = (record["endpoint_config_name"] for record in records)
    assert one != two == again


def test_a_model_of_which_s3_tells_nothing_is_deployed_all_the_same_and_that_is_said(
    deploy: Deploy, server: LocalSageMaker
) -> None:
    data = steps.model_data(server)
    with server.fault("denied", service="s3", action="HeadObject", times=0):
        run = deploy(hosting="s3", model_data=data)
    assert run.state == "success", run.errors
    assert run.log.count(f"Whether {data} is changed in place will not be noticed: ") == 1
    nowhere = f"s3://{BUCKET}/{unique('nothing')}"
    run = deploy(hosting="s3", model_data=nowhere)
    assert f"Whether {nowhere} is changed in place will not be noticed: there is no such object" in run.log


@pytest.mark.parametrize("hosting", ["repack", "s3"])
@pytest.mark.parametrize("uri", ["model.tar.gz", f"s3://{BUCKET}"])
def test_a_model_that_can_be_none_is_named_by_its_parameter(deploy: Deploy, uri: str, hosting: str) -> None:
    run = deploy(model_data=uri, hosting=hosting)
    assert f"model_data={uri!r}: " in str(run.errors["deploy"])


def test_not_waiting_gives_the_record_of_an_endpoint_that_comes_up(deploy: Deploy, server: LocalSageMaker) -> None:
    run = deploy(wait_for_completion=False)
    assert run.state == "success", run.errors
    assert run.xcom("deploy")["endpoint_name"]


@pytest.mark.parametrize("hosting", ["repack", "s3"])
def test_the_code_lies_in_the_model_archive_or_stays_in_its_own(
    deploy: Deploy, server: LocalSageMaker, hosting: str
) -> None:
    run = deploy(hosting=hosting)
    assert run.state == "success", run.errors
    package = steps.package(server)
    model = client(server, "sagemaker").describe_model(ModelName=run.xcom("deploy")["model_name"])
    container = model["PrimaryContainer"]
    directory = container["Environment"]["SAGEMAKER_SUBMIT_DIRECTORY"]
    repacked = container["ModelDataUrl"] != steps.model_data(server)
    assert repacked == (hosting == "repack")
    assert directory == ("/opt/ml/model/code" if repacked else package["s3_uri"])
    assert container["Environment"]["SAGEMAKER_PROGRAM"] == "serve.py"
    assert ask(server, run.xcom("deploy")["endpoint_name"])["model"] == "w"


def test_two_models_share_the_traffic_of_one_endpoint_by_weight(deploy: Deploy, server: LocalSageMaker) -> None:
    other = {**steps.package(server), "commit": "d" * 40, "digest": "d" * 64}
    variants = [
        {"variant_name": "Champion", "initial_weight": 3, "initial_instance_count": 2},
        {"variant_name": "Challenger", "model_data": steps.model_data(server, "new"), "package": other},
    ]
    run = deploy(variants=json.dumps(variants), initial_weight=0.5, instance_type="ml.c5.large")
    assert run.state == "success", run.errors
    record, sagemaker = run.xcom("deploy"), client(server, "sagemaker")
    live = sagemaker.describe_endpoint(EndpointName=record["endpoint_name"])["ProductionVariants"]
    shares = [(each["VariantName"], each["CurrentWeight"], each["CurrentInstanceCount"]) for each in live]
    assert shares == [("Champion", 3.0, 2), ("Challenger", 0.5, 1)]
    config = sagemaker.describe_endpoint_config(EndpointConfigName=record["endpoint_config_name"])
    champion, challenger = (each["ModelName"] for each in config["ProductionVariants"])
    assert record["model_name"] == champion
    assert {each["InstanceType"] for each in config["ProductionVariants"]} == {"ml.c5.large"}
    for name, commit in ((champion, steps.COMMIT), (challenger, "d" * 40)):
        model = sagemaker.describe_model(ModelName=name)
        assert steps.tags_of(server, model["ModelArn"])["commit"] == commit
        assert model["PrimaryContainer"]["Environment"]["SM_GIT_COMMIT"] == commit
    runtime = client(server, "sagemaker-runtime")
    for variant, weights in (("Champion", "w"), ("Challenger", "new")):
        answer = runtime.invoke_endpoint(
            EndpointName=record["endpoint_name"], Body=b"{}", ContentType="application/json", TargetVariant=variant
        )
        assert json.loads(answer["Body"].read())["model"] == weights


def test_the_snippet_of_the_readme_serves_both_models(airflow: Runner, server: LocalSageMaker) -> None:
    name = unique("words")
    snippet = Page("README.md").snippets["standing.py"]
    for written, here in {
        '"words"': repr(name),
        '"SageMakerRole"': '"sm-git-local"',
        "s3://your-bucket/champion/model.tar.gz": steps.model_data(server, "champion"),
        '"WaitIntervalInSeconds": 300': '"WaitIntervalInSeconds": 0',
    }.items():
        assert written in snippet
        snippet = snippet.replace(written, here)
    given = {
        "DeployOperator": partial(DeployOperator, entry_point="serve.py", check_interval=0.05),
        "package": SimpleNamespace(output=steps.package(server)),
        "train": SimpleNamespace(output=job(status="Completed", model_data=steps.model_data(server, "challenger"))),
    }
    with airflow.dag() as dag:
        exec(snippet, given)  # noqa: S102 - our own page
    run = airflow.run(dag)
    assert run.state == "success", run.errors
    seen: set[str] = set()
    until(lambda: seen.add(ask(server, name)["model"]) or seen, lambda models: len(models) == 2)
    steps.clean_up(server, name)
    assert seen == {"champion", "challenger"}


@pytest.mark.parametrize(
    ("variants", "said"),
    [
        ([{"initial_weight": 1}], "variants=['initial_weight']: has no variant_name"),
        ([{"variant_name": "A", "wieght": 1}], "variants='wieght': is no parameter of a variant"),
        ([{"variant_name": "A"}, {"variant_name": "A"}], "variants='A': is the name of two variants"),
        ([{"variant_name": "A", "initial_weight": "much"}], "initial_weight='much': is not a number"),
        (["A"], "variants='A': is not JSON of a dict"),
    ],
)
def test_a_variant_that_cannot_be_is_named_before_anything_is_made(
    deploy: Deploy, server: LocalSageMaker, variants: Any, said: str
) -> None:
    asked = len(server.requests())
    run = deploy(variants=variants)
    assert said in str(run.errors["deploy"])
    assert not {"CreateModel", "CreateEndpointConfig", "CreateEndpoint"} & set(steps.actions(server, asked))


@pytest.mark.parametrize("deferrable", WAITING)
def test_an_update_takes_its_policy_along_and_is_waited_for_to_the_end_of_it(
    deploy: Deploy, server: LocalSageMaker, deferrable: bool
) -> None:
    name = unique("standing")
    routing = '{"Type": "ALL_AT_ONCE", "WaitIntervalInSeconds": {{ dag_run.conf["s"] }}}'
    policy = f'{{"BlueGreenUpdatePolicy": {{"TrafficRoutingConfiguration": {routing}, "TerminationWaitInSeconds": 0}}}}'
    for weights in ("one", "two"):
        data = steps.model_data(server, weights)
        run = deploy({"s": 1}, endpoint_name=name, model_data=data, deployment_config=policy, deferrable=deferrable)
        assert run.state == "success", run.errors
    live = client(server, "sagemaker").describe_endpoint(EndpointName=name)
    assert live["EndpointStatus"] == "InService"
    assert live["EndpointConfigName"] == run.xcom("deploy")["endpoint_config_name"]
    used = live["LastDeploymentConfig"]["BlueGreenUpdatePolicy"]["TrafficRoutingConfiguration"]
    assert used == {"Type": "ALL_AT_ONCE", "WaitIntervalInSeconds": 1}
    assert ask(server, name)["model"] == "two"


def test_without_an_entry_point_the_package_says_what_serves(deploy: Deploy, server: LocalSageMaker) -> None:
    run = deploy(entry_point=None, package=steps.package(server, {"own.py": steps.SERVE}, "own.py"))
    assert run.state == "success", run.errors
    model = client(server, "sagemaker").describe_model(ModelName=run.xcom("deploy")["model_name"])
    assert model["PrimaryContainer"]["Environment"]["SAGEMAKER_PROGRAM"] == "own.py"


def test_parameters_may_be_text_that_a_template_gives(deploy: Deploy, server: LocalSageMaker) -> None:
    run = deploy(
        {"count": 2},
        package=json.dumps(steps.package(server)),
        initial_instance_count="{{ dag_run.conf['count'] }}",
        environment='{"WHO": "{{ dag.dag_id }}"}',
        config_overrides='{"CreateEndpointConfig": {"ProductionVariants": null}}',
        wait_for_completion=False,
    )
    assert "CreateEndpointConfig" in str(run.errors["deploy"]), "the override took the variants away"
    run = deploy(
        {"count": 2},
        package=json.dumps(steps.package(server)),
        initial_instance_count="{{ dag_run.conf['count'] }}",
        environment='{"WHO": "{{ dag.dag_id }}"}',
    )
    record = run.xcom("deploy")
    sagemaker = client(server, "sagemaker")
    model = sagemaker.describe_model(ModelName=record["model_name"])
    config = sagemaker.describe_endpoint_config(EndpointConfigName=record["endpoint_config_name"])
    assert model["PrimaryContainer"]["Environment"]["WHO"] == run.dag.dag_id
    assert config["ProductionVariants"][0]["InitialInstanceCount"] == 2


def test_a_job_without_a_model_cannot_be_deployed(deploy: Deploy, server: LocalSageMaker) -> None:
    unfinished = job(status="InProgress", model_data=None)
    run = deploy(training_job=unfinished, model_data=None)
    assert "training_job='a-job': is InProgress and has no model" in str(run.errors["deploy"])
    run = deploy(training_job=unfinished)
    assert "given together with training_job" in str(run.errors["deploy"])
