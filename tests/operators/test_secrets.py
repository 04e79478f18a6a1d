"""Secrets in DAG code: kept out of what Airflow stores in clear, and spoken of."""

from __future__ import annotations

import gc
import json
import shlex
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from airflow_sm_git import GitCheckoutOperator, PackageSourceOperator
from airflow_sm_git.core.errors import BadParameter
from tests.airflow_runner import Run, Runner
from tests.git_server import GitServer, Repository, serve
from tests.peer_environments import CHECKOUT as CHECKOUT_FOLDER
from tests.peer_environments import peer_python

SECRET = "c4n/ary+s3cr@t%20"
CONFIG = {"repo": "https://example.com/models.git", "branch": "main", "token": SECRET}
TEMPLATE = {**CONFIG, "token": "{{ var.value.git_token }}"}
CHECKOUT = {"schema": 1, "repo": "https://example.com/models.git", "commit": "c" * 40}


def serialised(dag: Any) -> str:
    from airflow.serialization.serialized_objects import DagSerialization

    return json.dumps(DagSerialization.to_dict(dag))


def test_a_serialised_dag_does_not_hold_git_config(airflow: Runner) -> None:
    with airflow.dag() as dag:
        GitCheckoutOperator(task_id="checkout", git_config=CONFIG)
        PackageSourceOperator(task_id="package", checkout=CHECKOUT, entry_point="train.py", git_config=CONFIG)
    assert "c4n" not in serialised(dag)


def mapped(**options: Any) -> Any:
    return GitCheckoutOperator.partial(task_id="checkout", **options)


def group(**options: Any) -> Any:
    """A task group whose argument `config` is the checkout's git_config, or whose `token` is in it."""
    from airflow.sdk import task_group

    @task_group
    def chosen(config: Any = None, token: Any = None) -> None:
        GitCheckoutOperator(task_id="checkout", git_config=config or {**CONFIG, "token": token})

    return chosen.partial(**options) if options else chosen


STORED: dict[str, Callable[[Any], Any]] = {
    "partial": lambda config: mapped(git_config=config).expand(ref=["a", "b"]),
    "expand": lambda config: mapped().expand(git_config=[TEMPLATE, config]),
    "expand_kwargs": lambda config: mapped().expand_kwargs([{"git_config": TEMPLATE}, {"git_config": config}]),
    "group": lambda config: group(token=None).expand(config=[TEMPLATE, config]),
    "group's kwargs": lambda config: group().expand_kwargs([{"config": config, "token": None}]),
    "token of a group": lambda config: group(config=None).expand(token=[config["token"]]),
}


@pytest.mark.parametrize("way", STORED)
def test_a_secret_never_gets_into_the_arguments_of_what_is_mapped(airflow: Runner, way: str) -> None:
    with airflow.dag() as dag:
        with pytest.raises(BadParameter, match=r"would store in clear for a mapped task.*git_conn_id") as error:
            STORED[way](CONFIG)
        assert "c4n" not in str(error.value)
    with airflow.dag() as dag:
        STORED[way](TEMPLATE)
    assert "git_token" in serialised(dag), "this way is not stored at all: the test is about nothing"


def test_a_secret_never_gets_into_the_default_arguments_of_a_dag(airflow: Runner) -> None:
    with airflow.dag(default_args={"git_config": CONFIG}), pytest.raises(BadParameter, match="default_args of a DAG"):
        GitCheckoutOperator(task_id="checkout")
    with airflow.dag(default_args={"git_config": TEMPLATE}) as dag:
        GitCheckoutOperator(task_id="checkout")
    assert "git_token" in serialised(dag)


def test_what_another_task_returns_may_be_mapped_over(airflow: Runner) -> None:
    with airflow.dag() as dag:
        first = GitCheckoutOperator(task_id="first", git_config=TEMPLATE)
        made = mapped().expand(git_config=first.output)
        mapped_again = GitCheckoutOperator.partial(task_id="again").expand_kwargs(first.output)
    assert made.operator_class is mapped_again.operator_class is GitCheckoutOperator
    assert {"first", "checkout", "again"} == set(dag.task_dict)


def test_nothing_else_is_said_when_a_mapping_is_refused(airflow: Runner, recwarn: pytest.WarningsRecorder) -> None:
    gc.collect()  # what others have left says so now
    recwarn.clear()
    for way in ("expand", "expand_kwargs"):
        with airflow.dag(), pytest.raises(BadParameter):
            STORED[way](CONFIG)
    gc.collect()
    assert not [str(each.message) for each in recwarn if "never mapped" in str(each.message)]


@pytest.fixture
def private(tmp_path: Path, repository: Repository, monkeypatch: pytest.MonkeyPatch) -> Iterator[GitServer]:
    monkeypatch.setenv("AIRFLOW__SM_GIT__ALLOWED_SCHEMES", "file,http")
    with serve(tmp_path) as server:
        yield server


def checkout(airflow: Runner, **options: Any) -> Run:
    with airflow.dag() as dag:
        GitCheckoutOperator(task_id="checkout", **options)
    return airflow.run(dag)


def logins() -> list[Any]:
    with_password = {"username": "ada l.", "password": SECRET}
    return [
        pytest.param({"token": SECRET}, ("x-access-token", SECRET), id="token"),
        pytest.param(with_password, ("ada l.", SECRET), id="password"),
    ]


@pytest.mark.parametrize(("given", "login"), logins())
def test_a_secret_in_dag_code_draws_a_warning_whose_connection_works(
    airflow: Runner,
    repository: Repository,
    private: GitServer,
    monkeypatch: pytest.MonkeyPatch,
    given: dict[str, str],
    login: tuple[str, str],
) -> None:
    private.login = login
    url = private.url("repository")
    run = checkout(airflow, git_config={"repo": url, "branch": "main"} | given)
    assert run.state == "success", run.errors
    (kind,) = {"token", "password"} & given.keys()
    assert f"git_config holds a {kind} in DAG code, which Airflow stores in clear in its database." in run.log
    assert "c4n" not in run.log
    (command,) = [line for text in run.lines for line in text.replace("\\n", "\n").split("\n") if "connections" in line]
    words = shlex.split(command[command.index("airflow") :])
    assert words[:3] == ["airflow", "connections", "add"]
    fields = dict(zip(words[4::2], words[5::2], strict=True))
    assert fields["--conn-password"] == f"<the {kind}>"
    connection = {name.removeprefix("--conn-").replace("type", "conn_type"): value for name, value in fields.items()}
    monkeypatch.setenv(f"AIRFLOW_CONN_{words[3].upper()}", json.dumps(connection | {"password": SECRET}))
    assert f"write git_conn_id='{words[3]}', ref='main' instead" in run.log
    again = checkout(airflow, git_conn_id=words[3], ref="main")
    assert again.xcom("checkout") == run.xcom("checkout"), again.errors
    assert "in DAG code" not in again.log


def test_a_template_that_fetches_a_secret_draws_no_warning(
    airflow: Runner, private: GitServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    private.login = ("x-access-token", SECRET)
    monkeypatch.setenv("AIRFLOW_VAR_GIT_TOKEN", SECRET)
    run = checkout(airflow, git_config=TEMPLATE | {"repo": private.url("repository")})
    assert run.state == "success", run.errors
    assert "in DAG code" not in run.log


def test_a_secret_that_is_not_used_is_to_be_taken_out(airflow: Runner) -> None:
    run = checkout(airflow, git_config={"repo": "ssh://git@127.0.0.1:9/models.git", "token": SECRET})
    assert "Take it out: it is not used." in run.log and "connections add" not in run.log
    assert "c4n" not in run.log + repr(run.errors)


PROGRAM = """
import json, sys
import airflow
from airflow.sdk import DAG, task_group
from airflow.serialization.serialized_objects import SerializedDAG
from airflow_sm_git import GitCheckoutOperator
from airflow_sm_git.core.errors import BadParameter

assert airflow.__version__ == "3.0.6", airflow.__version__
config = {"repo": "https://example.com/models.git", "token": "c4nary"}
template = {**config, "token": "{{ var.value.git_token }}"}

def group(configs):
    @task_group
    def chosen(config):
        GitCheckoutOperator(task_id="checkout", git_config=config)
    chosen.expand(config=configs)

def partial(**options):
    return GitCheckoutOperator.partial(task_id="checkout", **options)

ways = {
    "partial": lambda config: partial(git_config=config).expand(ref=["a"]),
    "expand": lambda config: partial().expand(git_config=[config]),
    "expand_kwargs": lambda config: partial().expand_kwargs([{"git_config": config}]),
    "group": lambda config: group([config]),
}
refused = []
for name, way in ways.items():
    with DAG("refused", schedule=None):
        try:
            way(config)
        except BadParameter:
            refused.append(name)
    with DAG("stored", schedule=None) as dag:
        way(template)
    assert "git_token" in json.dumps(SerializedDAG.to_dict(dag)), name
with DAG("defaults", schedule=None, default_args={"git_config": config}):
    try:
        GitCheckoutOperator(task_id="checkout")
    except BadParameter:
        refused.append("default_args")
with DAG("plain", schedule=None) as dag:
    GitCheckoutOperator(task_id="checkout", git_config=config)
assert "c4nary" not in json.dumps(SerializedDAG.to_dict(dag))
print(*refused)
"""


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_the_oldest_airflow_refuses_the_same(tmp_path: Path) -> None:
    environment = {"AIRFLOW_HOME": str(tmp_path), "HOME": str(tmp_path), "PYTHONPATH": str(CHECKOUT_FOLDER)}
    environment["PATH"] = "/usr/bin:/bin"
    lines = (CHECKOUT_FOLDER / "constraints" / "airflow-3.0.6.txt").read_text().splitlines()
    python = peer_python("airflow-3.0.6", [line for line in lines if not line.startswith("#")])
    done = subprocess.run([python, "-c", PROGRAM], env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split()[-5:] == ["partial", "expand", "expand_kwargs", "group", "default_args"]
