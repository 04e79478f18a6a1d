"""GitCheckout: one commit for a run, resolved when it runs."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from airflow_sm_git import GitCheckoutOperator
from airflow_sm_git.core.errors import BadParameter
from tests.airflow_runner import Run, Runner
from tests.git_server import FIRST_COMMIT, Repository, serve

SECRET = "a-token-nobody-may-see"


def checkout(airflow: Runner, conf: dict[str, Any] | None = None, dates: Any = None, **options: Any) -> Run:
    with airflow.dag() as dag:
        GitCheckoutOperator(task_id="checkout", **options)
    return airflow.run(dag, conf, **(dates or {}))


def test_a_branch_becomes_the_record_of_its_tip(airflow: Runner, repository: Repository) -> None:
    tip = repository.commit({"more.txt": b"1"}, subject="second")
    run = checkout(airflow, repo=repository.url, ref="main")
    assert run.state == "success", run.errors
    assert run.xcom("checkout") == {
        "schema": 1,
        "repo": repository.url,
        "ref": "main",
        "commit": tip,
        "tree": repository.sha(f"{tip}^{{tree}}"),
        "committed_at": "2024-01-01T02:00:00Z",
        "author": "A U Thor <author@example.com>",
        "subject": "second",
        "web_url": None,
    }


def test_without_a_ref_it_is_the_head_of_the_remote(airflow: Runner, repository: Repository) -> None:
    record = checkout(airflow, repo=repository.url).xcom("checkout")
    assert (record["ref"], record["commit"]) == ("main", repository.sha("main"))


def test_repository_and_ref_may_be_templates(airflow: Runner, repository: Repository) -> None:
    repository.tag("v1", "main")
    conf = {"repo": repository.url, "tag": "v1"}
    run = checkout(airflow, conf, repo="{{ dag_run.conf['repo'] }}", ref="{{ dag_run.conf['tag'] }}")
    assert run.xcom("checkout")["ref"] == "v1"


@pytest.mark.parametrize("hours", [1, 2])
def test_a_scheduled_run_takes_the_last_commit_of_its_interval(
    airflow: Runner, repository: Repository, hours: int
) -> None:
    from airflow.utils.types import DagRunType

    shas = [repository.sha("main"), repository.commit({"a": b"2"}), repository.commit({"a": b"3"})]
    end = datetime.fromtimestamp(FIRST_COMMIT + 3600 * hours, UTC) + timedelta(minutes=30)
    dates = {"run_type": DagRunType.SCHEDULED, "logical_date": end, "run_after": end, "data_interval": (end, end)}
    run = checkout(airflow, dates=dates, repo=repository.url, ref="main", as_of="schedule")
    assert run.xcom("checkout")["commit"] == shas[hours - 1]


def test_a_manual_run_takes_the_tip_also_as_of_its_schedule(airflow: Runner, repository: Repository) -> None:
    tip = repository.commit({"a": b"2"})
    assert checkout(airflow, repo=repository.url, as_of="schedule").xcom("checkout")["commit"] == tip


@pytest.mark.parametrize("kind", ["text", "datetime"])
def test_a_time_takes_the_last_commit_before_it(airflow: Runner, repository: Repository, kind: str) -> None:
    first = repository.sha("main")
    repository.commit({"a": b"2"})
    moment = datetime.fromtimestamp(FIRST_COMMIT + 5000, UTC)
    run = checkout(airflow, repo=repository.url, ref="main", as_of=moment.isoformat() if kind == "text" else moment)
    assert run.xcom("checkout")["commit"] == first, run.errors


@pytest.mark.parametrize("paths", [["src", "lib"], "{{ dag_run.conf['paths'] }}"], ids=["list", "template"])
def test_paths_take_the_last_commit_that_changed_one(
    airflow: Runner, repository: Repository, paths: list[str] | str
) -> None:
    wanted = repository.commit({"src/new.py": b"1"})
    repository.commit({"notes.txt": b"1"})
    run = checkout(airflow, {"paths": ["src", "lib"]}, repo=repository.url, ref="main", paths=paths)
    assert run.state == "success", run.errors
    assert run.xcom("checkout")["commit"] == wanted


def test_paths_count_up_to_the_time_that_is_given(airflow: Runner, repository: Repository) -> None:
    wanted = repository.commit({"src/new.py": b"1"})
    repository.commit({"notes.txt": b"1"})
    end = repository.commit({"src/new.py": b"2"}, hours=5)
    moment = datetime.fromtimestamp(FIRST_COMMIT + 3600 * 4, UTC).isoformat()
    run = checkout(airflow, repo=repository.url, ref="main", as_of=moment, paths=["src"])
    assert run.xcom("checkout")["commit"] == wanted != end, run.errors


@pytest.mark.parametrize(
    ("as_of", "problem"),
    [("yesterday", "is not a time"), ("2024-01-01T00:00:00", "has no time zone")],
)
def test_a_time_that_says_too_little_is_refused(
    airflow: Runner, repository: Repository, as_of: str, problem: str
) -> None:
    run = checkout(airflow, repo=repository.url, as_of=as_of)
    assert f"as_of='{as_of}': {problem}" in str(run.errors["checkout"])


@pytest.fixture
def private(tmp_path: Path, repository: Repository, monkeypatch: pytest.MonkeyPatch) -> Any:
    """A server that wants the token ``SECRET``."""
    monkeypatch.setenv("AIRFLOW__SM_GIT__ALLOWED_SCHEMES", "file,http")
    with serve(tmp_path, login=("ada", SECRET)) as server:
        yield server


def secrets_in(run: Run) -> list[str]:
    """Where a run shows the token."""
    from airflow.models.renderedtifields import RenderedTaskInstanceFields
    from airflow.models.serialized_dag import SerializedDagModel
    from airflow.utils.session import create_session
    from sqlalchemy import select

    with create_session() as session:
        stored = SerializedDagModel.get(run.dag.dag_id, session=session)
        rendered = session.scalars(
            select(RenderedTaskInstanceFields.rendered_fields).where(
                RenderedTaskInstanceFields.dag_id == run.dag.dag_id
            )
        ).all()
        assert stored is not None
        shown = {"DAG": json.dumps(stored.data), "rendered fields": json.dumps(rendered)}
    shown |= {"XComs": repr(run.xcoms()), "log": run.log, "errors": repr(run.errors)}
    return [place for place, text in shown.items() if SECRET in text]


def test_git_config_brings_repository_ref_and_login_and_shows_no_secret(
    airflow: Runner, repository: Repository, private: Any
) -> None:
    config = {"repo": private.url("repository"), "branch": "main", "username": "ada", "password": SECRET}
    run = checkout(airflow, git_config=config)
    assert run.state == "success", run.errors
    assert run.xcom("checkout")["commit"] == repository.sha("main")
    assert secrets_in(run) == []


def test_git_config_is_rendered_only_when_the_task_runs(
    airflow: Runner, repository: Repository, private: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AIRFLOW_VAR_GIT_PASSWORD", SECRET)
    config = {"repo": private.url("repository"), "username": "ada", "password": "{{ var.value.git_password }}"}
    run = checkout(airflow, git_config=config)
    assert run.state == "success", run.errors
    assert secrets_in(run) == []


def test_a_connection_brings_repository_and_login(
    airflow: Runner, repository: Repository, private: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    given = {"conn_type": "git", "host": private.url("repository"), "login": "ada", "password": SECRET}
    monkeypatch.setenv("AIRFLOW_CONN_CODE", json.dumps(given))
    run = checkout(airflow, git_conn_id="code", ref="main")
    assert run.state == "success", run.errors
    assert run.xcom("checkout")["repo"] == private.url("repository")
    assert secrets_in(run) == []


def test_a_repository_beats_that_of_the_connection(
    airflow: Runner, repository: Repository, monkeypatch: pytest.MonkeyPatch
) -> None:
    given = {"conn_type": "git", "host": "https://example.invalid/other.git"}
    monkeypatch.setenv("AIRFLOW_CONN_CODE", json.dumps(given))
    assert checkout(airflow, git_conn_id="code", repo=repository.url).xcom("checkout")["repo"] == repository.url


def test_a_refused_login_is_an_error_without_the_secret(airflow: Runner, private: Any) -> None:
    config = {"repo": private.url("repository"), "username": "eve", "password": SECRET}
    run = checkout(airflow, git_config=config)
    assert run.state == "failed"
    assert private.url("repository") in str(run.errors["checkout"])
    assert secrets_in(run) == []


def test_two_ways_to_name_the_repository_are_one_too_many(airflow: Runner, repository: Repository) -> None:
    run = checkout(airflow, repo=repository.url, git_config={"repo": repository.url})
    assert "given together with git_config" in str(run.errors["checkout"])
    run = checkout(airflow, git_config={"repo": repository.url, "brnach": "main"})
    assert "Did you mean 'branch'?" in str(run.errors["checkout"])


def test_a_secret_never_gets_into_the_arguments_of_a_mapped_operator_which_airflow_stores_in_clear(
    airflow: Runner,
) -> None:
    secret = {"repo": "https://example.com/r", "token": "s3cr3t"}
    with airflow.dag():
        with pytest.raises(BadParameter, match="git_conn_id") as caught:
            GitCheckoutOperator.partial(task_id="checkout", git_config=secret)
        assert "s3cr3t" not in str(caught.value)
        mapped = GitCheckoutOperator.partial(task_id="checkout", repo="https://example.com/r").expand(ref=["a", "b"])
    assert mapped.operator_class is GitCheckoutOperator
