"""The pin: a run speaks of one commit, however often its tasks run again and wherever the branch has gone."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from airflow_sm_git import GitCheckoutOperator, PackageSourceOperator, train_deploy_predict
from airflow_sm_git.local.pytest_plugin import LocalSageMaker
from tests import steps
from tests.airflow_runner import Run, Runner
from tests.git_server import Repository, git
from tests.local.sagemaker_requests import IMAGE, ROLE


@pytest.fixture
def repository(tmp_path: Path) -> Repository:
    made = Repository(tmp_path / "repository")
    made.commit(steps.files())
    return made


def run_chain(airflow: Runner, repository: Repository, **options: Any) -> Run:
    defaults = {"entry_point": "train.py", "source_dir": "src", "image_uri": IMAGE, "role": ROLE}
    with airflow.dag() as dag:
        arguments = {**defaults, "repo": repository.url, "ref": "main", "check_interval": 0.05, **options}
        train_deploy_predict(group_id="chain", hosting_entry_point="serve.py", **arguments)
    return airflow.run(dag)


def commits(run: Run) -> set[str]:
    return {run.xcom(f"chain.{step}")["commit"] for step in ("checkout", "package", "train", "deploy")}


def test_clearing_a_task_keeps_the_commit_although_the_branch_has_moved(
    airflow: Runner, local_sagemaker: LocalSageMaker, repository: Repository
) -> None:
    run = run_chain(airflow, repository, data="please raise", policy="always")
    first = repository.sha("main")
    assert (run.state, commits(run)) == ("failed", {first})
    repository.commit({"src/train.py": b"raise SystemExit('the new commit must not run')"})
    run.dag.task_dict["chain.predict"].data = "hi"
    airflow.go_on(airflow.clear(run, "chain.train"))
    assert run.state == "success", run.errors
    assert commits(run) == {first}
    assert f"is at {first} (the pin of this run)" in run.log
    assert steps.left_of(local_sagemaker, run.dag.dag_id) == []


def test_clearing_again_after_the_package_has_failed_keeps_the_commit(airflow: Runner, repository: Repository) -> None:
    run = run_chain(airflow, repository, data="hi")
    first = repository.sha("main")
    assert (run.state, commits(run)) == ("success", {first})
    repository.commit({"src/new.txt": b""})
    package = run.dag.task_dict["chain.package"]
    package.s3_uri_prefix = "s3://no-such-bucket/packages"
    airflow.go_on(airflow.clear(run, "chain.checkout"))
    assert (run.states["chain.package"], run.xcom("chain.package")) == ("failed", None)
    package.s3_uri_prefix = None
    airflow.go_on(airflow.clear(run, "chain.checkout"))
    assert run.state == "success", run.errors
    assert commits(run) == {first}


def test_of_two_checkouts_in_a_row_each_keeps_its_own_commit(airflow: Runner, repository: Repository) -> None:
    first, second = repository.sha("main"), repository.commit({"src/new.txt": b""})
    repository.move("old", first)
    with airflow.dag() as dag:
        packages = {}
        for name, ref in (("z", "old"), ("a", "main")):  # by name the tasks of the second one come first
            checkout = GitCheckoutOperator(task_id=f"{name}_checkout", repo=repository.url, ref=ref)
            options = {"checkout": checkout.output, "entry_point": "train.py", "source_dir": "src"}
            packages[name] = PackageSourceOperator(task_id=f"{name}_package", **options)
        packages["z"] >> dag.task_dict["a_checkout"]
    run = airflow.run(dag)
    repository.commit({"src/newer.txt": b""})
    airflow.go_on(airflow.clear(run, "z_checkout"))
    assert run.state == "success", run.errors
    assert [run.xcom(f"{name}_package")["commit"] for name in "za"] == [first, second]


def checked_out(airflow: Runner, repository: Repository, **options: Any) -> Run:
    """A checkout and a package: whose XCom keeps the pin."""
    with airflow.dag() as dag:
        checkout = GitCheckoutOperator(task_id="checkout", repo=repository.url, ref="main", **options)
        PackageSourceOperator(task_id="package", checkout=checkout.output, entry_point="train.py", source_dir="src")
    return airflow.run(dag)


def test_clearing_the_checkout_keeps_the_commit_too(airflow: Runner, repository: Repository) -> None:
    run = checked_out(airflow, repository)
    first = run.xcom("package")["commit"]
    repository.commit({"src/new.txt": b""})
    airflow.go_on(airflow.clear(run, "checkout"))
    assert run.state == "success", run.errors
    assert run.xcom("checkout")["commit"] == run.xcom("package")["commit"] == first


def test_a_new_run_takes_what_the_ref_names_now(airflow: Runner, repository: Repository) -> None:
    run = checked_out(airflow, repository)
    tip = repository.commit({"src/new.txt": b""})
    assert airflow.run(run.dag).xcom("package")["commit"] == tip


def test_repin_takes_what_the_ref_names_now(airflow: Runner, repository: Repository) -> None:
    run = checked_out(airflow, repository, repin=True)
    tip = repository.commit({"src/new.txt": b""})
    airflow.go_on(airflow.clear(run, "checkout"))
    assert run.state == "success", run.errors
    assert run.xcom("package")["commit"] == tip


def test_a_pinned_commit_that_the_remote_no_longer_has_is_named_with_both_ways_out(
    airflow: Runner, repository: Repository, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = checked_out(airflow, repository)
    first = run.xcom("package")["commit"]
    repository.move("main", _other_history(repository, tmp_path))
    repository.forget(first)
    monkeypatch.setenv("AIRFLOW__SM_GIT__CACHE_DIR", str(tmp_path / "another-machine"))
    airflow.go_on(airflow.clear(run, "checkout"))
    error = str(run.errors["checkout"])
    assert run.state == "failed"
    assert f"no longer has the commit {first} that this run is pinned to" in error
    assert "Push it again, or clear the run with repin=True" in error


def _other_history(repository: Repository, folder: Path) -> str:
    """A commit that has nothing to do with the others."""
    other = Repository(folder / "other")
    commit = other.commit(steps.files(**{"src/new.txt": "rewritten"}))
    git("-C", repository.path, "fetch", "-q", str(other.path), f"{commit}:refs/heads/rewritten")
    return commit
