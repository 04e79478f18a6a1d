"""PackageSource: the same content is one object, whoever packages it."""

from __future__ import annotations

import hashlib
import io
import json
import tarfile
import zlib
from pathlib import Path
from typing import Any

import pytest

from airflow_sm_git import GitCheckoutOperator, PackageSourceOperator
from airflow_sm_git.core.manifest import check_manifest
from airflow_sm_git.core.records import Package
from airflow_sm_git.local.pytest_plugin import LocalSageMaker
from tests.airflow_runner import Run, Runner
from tests.git_server import Repository, git, serve
from tests.local.sagemaker_requests import BUCKET, client, unique


@pytest.fixture
def server(local_sagemaker: LocalSageMaker) -> LocalSageMaker:
    return local_sagemaker


def manifest_of(server: LocalSageMaker, record: Package) -> Any:
    """The manifest that lies beside a package."""
    folder, _, name = record["manifest_uri"].removeprefix(f"s3://{BUCKET}/").rpartition("/")
    assert f"s3://{BUCKET}/{folder}/sourcedir.tar.gz" == record["s3_uri"]
    return json.load(client(server, "s3").get_object(Bucket=BUCKET, Key=f"{folder}/{name}")["Body"])


def package(airflow: Runner, repository: Repository, **options: Any) -> Run:
    with airflow.dag() as dag:
        checkout = GitCheckoutOperator(task_id="checkout", repo=repository.url)
        PackageSourceOperator(task_id="package", **{"checkout": checkout.output, **options})
    return airflow.run(dag)


def test_the_record_tells_of_the_object_and_the_commit(
    airflow: Runner, server: LocalSageMaker, repository: Repository
) -> None:
    prefix = f"s3://{BUCKET}/{unique('prefix')}/"
    run = package(airflow, repository, entry_point="train.py", source_dir="src", s3_uri_prefix=prefix)
    assert run.state == "success", run.errors
    record, commit = run.xcom("package"), repository.sha("main")
    key = record["s3_uri"].removeprefix(f"s3://{BUCKET}/")
    found = client(server, "s3").get_object(Bucket=BUCKET, Key=key)
    body = found["Body"].read()
    digest = hashlib.sha256(zlib.decompress(body, wbits=31)).hexdigest()
    assert record == {
        "schema": 1,
        "s3_uri": f"{prefix}packages/{digest}/sourcedir.tar.gz",
        "digest": digest,
        "commit": commit,
        "tree": repository.sha(f"{commit}^{{tree}}"),
        "repo": repository.url,
        "entry_point": "train.py",
        "source_dir": "src",
        "size": len(body),
        "file_count": 2,
        "reused": False,
        "manifest_uri": record["manifest_uri"],
    }
    assert found["Metadata"] == {"digest": digest, "commit": commit}
    with tarfile.open(fileobj=io.BytesIO(body)) as archive:
        assert archive.getnames() == ["serve.py", "train.py"]
    manifest = manifest_of(server, record)
    check_manifest(manifest, io.BytesIO(body))
    assert {key: manifest[key] for key in ("repository", "commit", "tree", "digest", "source_dir", "entry_point")} == {
        "repository": repository.url,
        **{key: record[key] for key in ("commit", "tree", "digest", "source_dir", "entry_point")},
    }


def test_the_same_content_of_another_commit_is_not_put_again(
    airflow: Runner, server: LocalSageMaker, repository: Repository
) -> None:
    prefix = f"s3://{BUCKET}/{unique('prefix')}/"
    options = {"entry_point": "train.py", "source_dir": "src", "s3_uri_prefix": prefix}
    first = package(airflow, repository, **options).xcom("package")
    repository.commit({"elsewhere.txt": b"new"})
    asked = len(server.requests())
    second = package(airflow, repository, **options).xcom("package")
    assert (second["s3_uri"], second["reused"]) == (first["s3_uri"], True)
    assert second["commit"] != first["commit"]
    puts = [line["resource"] for line in server.requests()[asked:] if line["action"] == "PutObject"]
    assert puts == [second["manifest_uri"].removeprefix("s3://")], "only the commit's own manifest is new"
    assert manifest_of(server, second)["commit"] == second["commit"]


def test_without_a_source_dir_the_script_lies_at_the_root_with_its_dependencies(
    airflow: Runner, server: LocalSageMaker, repository: Repository
) -> None:
    repository.commit({"lib/words/a.py": b"", "lib/words/b.py": b""})
    run = package(airflow, repository, entry_point="src/train.py", dependencies=["lib/words"])
    record = run.xcom("package")
    key = record["s3_uri"].removeprefix(f"s3://{BUCKET}/")
    body = client(server, "s3").get_object(Bucket=BUCKET, Key=key)["Body"].read()
    assert (record["entry_point"], record["source_dir"]) == ("train.py", None)
    with tarfile.open(fileobj=io.BytesIO(body)) as archive:
        files = [member.name for member in archive if member.isfile()]
    assert files == ["train.py", "words/a.py", "words/b.py"]


def test_the_default_place_is_that_of_the_account_and_its_owner_is_checked(
    airflow: Runner, repository: Repository
) -> None:
    record = package(airflow, repository, entry_point="train.py", source_dir="src").xcom("package")
    assert record["s3_uri"].startswith(f"s3://{BUCKET}/sm-git/packages/")


def test_a_setting_names_the_place(airflow: Runner, repository: Repository, monkeypatch: pytest.MonkeyPatch) -> None:
    prefix = f"s3://{BUCKET}/{unique('setting')}"
    monkeypatch.setenv("AIRFLOW__SM_GIT__S3_URI_PREFIX", prefix)
    record = package(airflow, repository, entry_point="train.py", source_dir="src").xcom("package")
    assert record["s3_uri"].startswith(f"{prefix}/packages/")


def test_the_checkout_may_be_its_json(airflow: Runner, repository: Repository) -> None:
    with airflow.dag() as dag:
        GitCheckoutOperator(task_id="checkout", repo=repository.url) >> PackageSourceOperator(
            task_id="package",
            checkout="{{ ti.xcom_pull(task_ids='checkout') | tojson }}",
            entry_point="train.py",
            source_dir="{{ 'src' }}",
        )
    run = airflow.run(dag)
    assert run.xcom("package")["commit"] == repository.sha("main"), run.errors


@pytest.mark.parametrize(
    ("given", "problem"),
    [
        ("{}", "has schema None, this version reads schema 1"),
        ({"schema": 1, "commit": "x"}, "lacks author, committed_at"),
        ("not a record", "is neither a record nor its JSON"),
    ],
)
def test_something_else_than_a_checkout_is_named(
    airflow: Runner, repository: Repository, given: Any, problem: str
) -> None:
    run = package(airflow, repository, checkout=given, entry_point="train.py")
    assert run.state == "failed"
    assert "checkout=" in str(run.errors["package"])
    assert problem in str(run.errors["package"])


@pytest.mark.parametrize("kind", ["git_config", "connection"])
def test_a_private_repository_is_read_with_the_login_of_either_kind(
    airflow: Runner, repository: Repository, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    monkeypatch.setenv("AIRFLOW__SM_GIT__ALLOWED_SCHEMES", "http")
    with serve(tmp_path, login=("ada", "secret-7")) as git_server:
        url = git_server.url("repository")
        login: dict[str, Any] = {"git_config": {"repo": url, "username": "ada", "password": "secret-7"}}
        if kind == "connection":
            given = {"conn_type": "git", "host": url, "login": "ada", "password": "secret-7"}
            monkeypatch.setenv("AIRFLOW_CONN_CODE", json.dumps(given))
            login = {"git_conn_id": "code"}
        with airflow.dag() as dag:
            checkout = GitCheckoutOperator(task_id="checkout", **login).output
            PackageSourceOperator(task_id="package", checkout=checkout, entry_point="src/train.py", **login)
            PackageSourceOperator(task_id="without", checkout=checkout, entry_point="src/serve.py")
        run = airflow.run(dag)
    assert run.xcom("package")["commit"] == repository.sha("main"), run.errors
    assert run.states["without"] == "failed", "the blobs are asked for with the login"
    assert "secret-7" not in run.log + repr(run.xcoms())


def test_a_bucket_of_a_stranger_is_refused(airflow: Runner, repository: Repository, server: LocalSageMaker) -> None:
    run = package(airflow, repository, entry_point="src/train.py", s3_uri_prefix="s3://no-such-bucket-at-all/x")
    assert "s3://no-such-bucket-at-all/x/packages/" in str(run.errors["package"])
    assert json.dumps(run.xcom("package")) == "null"


@pytest.mark.parametrize("asked", [True, "{{ dag_run.conf['with'] }}"])
def test_submodules_are_packaged_where_asked_for(
    airflow: Runner, server: LocalSageMaker, repository: Repository, tmp_path: Path, asked: bool | str
) -> None:
    inner = Repository(tmp_path / "inner")
    recorded = inner.commit({"a.py": b"a"})
    repository.commit({".gitmodules": f'[submodule "x"]\npath = src/x\nurl = {inner.url}\n'.encode()})
    lines = "commit refs/heads/main\ncommitter A <a@example.com> 1704067200 +0000\ndata 1\nx\n"
    lines += f"from {repository.sha('main')}\nM 160000 {recorded} src/x\n"
    git("-C", repository.path, "fast-import", "--quiet", "--force", stdin=lines.encode())
    with airflow.dag() as dag:
        checkout = GitCheckoutOperator(task_id="checkout", repo=repository.url)
        options = {"entry_point": "train.py", "source_dir": "src", "submodules": asked}
        PackageSourceOperator(task_id="package", checkout=checkout.output, **options)
    run = airflow.run(dag, {"with": "true"})
    assert run.state == "success", run.errors
    manifest = manifest_of(server, run.xcom("package"))
    assert "x/a.py" in [file["path"] for file in manifest["files"]]
    assert manifest["submodules"] is True
