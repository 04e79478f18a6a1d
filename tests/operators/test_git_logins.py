"""Checkout and package from hosts that want another login than a token: CodeCommit with the AWS connection, SSH."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from airflow_sm_git import GitCheckoutOperator, PackageSourceOperator
from airflow_sm_git.clients.codecommit import AwsKeys
from airflow_sm_git.core.ssh import key_lines
from airflow_sm_git.local.pytest_plugin import LocalSageMaker
from tests import steps
from tests.airflow_runner import Run, Runner
from tests.clients.test_codecommit import CodeCommit
from tests.git_server import Repository
from tests.https_server import proxy_to, serve_https
from tests.local.sagemaker_requests import BUCKET, unique
from tests.ssh_server import make_key, serve_ssh


def packaged(airflow: Runner, **options: Any) -> Run:
    with airflow.dag() as dag:
        checkout = GitCheckoutOperator(task_id="checkout", ref="main", **options)
        PackageSourceOperator(
            task_id="package",
            checkout=checkout.output,
            entry_point="train.py",
            source_dir="src",
            s3_uri_prefix=f"s3://{BUCKET}/{unique('prefix')}/",
            git_conn_id=options.get("git_conn_id"),
        )
    return airflow.run(dag)


def test_codecommit_is_read_with_the_tasks_own_aws_connection(
    airflow: Runner, local_sagemaker: LocalSageMaker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "served" / "v1" / "repos").mkdir(parents=True)
    repository = Repository(tmp_path / "served" / "v1" / "repos" / "models")
    commit = repository.commit(steps.files())
    info = local_sagemaker.info
    codecommit = CodeCommit(AwsKeys(info.access_key_id, info.secret_access_key))
    with serve_https(tmp_path / "served", tmp_path) as (server, authority), proxy_to(server.port) as proxy:
        server.judge = codecommit.lets_in
        monkeypatch.setenv("https_proxy", proxy)
        monkeypatch.setenv("GIT_SSL_CAINFO", str(authority))
        run = packaged(airflow, repo="codecommit::eu-west-1://models")
    assert run.state == "success", run.errors
    assert codecommit.seen
    for record in (run.xcom("checkout"), run.xcom("package")):
        assert (record["repo"], record["commit"]) == ("codecommit::eu-west-1://models", commit)
    shown = run.log + json.dumps([list(values.values()) for values in run.xcoms().values()])
    assert not any(secret in shown for secret in (info.secret_access_key, *(one for _, one in codecommit.seen)))


def test_a_connection_with_a_key_reads_over_ssh_and_says_once_that_hosts_are_trusted_at_first_sight(
    airflow: Runner, repository: Repository, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    phrase = "canary-phrase"
    key = make_key(tmp_path / "key", passphrase=phrase)
    with serve_ssh(repository.path.parent, tmp_path / "sshd", key) as server:
        extra = {"private_key": key.private, "private_key_passphrase": phrase}
        given = {"conn_type": "git", "host": server.url("repository"), "extra": extra}
        monkeypatch.setenv("AIRFLOW_CONN_CODE", json.dumps(given))
        run = packaged(airflow, git_conn_id="code")
        assert run.state == "success", run.errors
        assert server.accepted == {key.fingerprint}
    assert run.xcom("package")["commit"] == repository.sha("main")
    assert run.log.count("trusted at first sight") == 1
    shown = run.log + json.dumps([list(values.values()) for values in run.xcoms().values()])
    assert not any(secret in shown for secret in (phrase, *key_lines(key.private)))
