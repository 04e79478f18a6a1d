"""Every fenced command and snippet of ``docs/`` is run; what shows the SageMaker SDK, in ``tests/sdk/test_docs.py``."""

from __future__ import annotations

import gzip
import hashlib
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from airflow_sm_git.clients.codecommit import AwsKeys
from airflow_sm_git.hooks.git import read_source
from airflow_sm_git.local.pytest_plugin import LocalSageMaker
from tests.airflow_runner import Run, Runner
from tests.clients.test_codecommit import CodeCommit
from tests.git_server import Repository
from tests.https_server import proxy_to, serve_https
from tests.local.sagemaker_requests import BUCKET, client
from tests.snippets import CHECKOUT, Page

MOVING = Page("docs/from-git-config.md")
REPO = "https://github.com/you/word-language-model"
# Where each snippet is run.
RUN = {
    "before.py": "tests/sdk/test_docs.py",
    "after.py": "tests/sdk/test_docs.py",
    "with_connection.py": "tests/test_docs.py",
    "codecommit.py": "tests/test_docs.py",
    "commits_of_a_release.py": "tests/test_docs.py",
    "as_of.py": "tests/test_docs.py",
}


@pytest.fixture
def repository(tmp_path: Path) -> Repository:
    """Three commits: v1, then v2's two, of which the last does not touch the code."""
    scripts = Page("README.md").snippets
    made = Repository(tmp_path / "repository")
    files = {f"src/{name}": scripts[name].encode() for name in ("train.py", "serve.py")}
    made.tag("v1", made.commit({**files, "requirements.txt": b""}))
    made.commit({"src/train.py": files["src/train.py"] + b"\n# better\n"})
    made.tag("v2", made.commit({"notes.txt": b"nothing to run"}), annotated=True)
    return made


@pytest.fixture
def data(local_sagemaker: LocalSageMaker) -> str:
    s3 = client(local_sagemaker, "s3")
    s3.put_object(Bucket=BUCKET, Key="docs/corpus/lines.txt", Body=b"short\nthe longest of all the lines\n")
    return f"s3://{BUCKET}/docs/corpus/"


def run_snippet(airflow: Runner, folder: Path, name: str, **replaced: str) -> Run:
    """Run the DAG of a snippet, as it stands but for where its repository and data are, and how often it looks."""
    text = MOVING.snippets[name].replace("train_deploy_predict(", "train_deploy_predict(check_interval=1,")
    for old, new in ((REPO, replaced.get("repo", REPO)), ("s3://your-bucket/corpus/", replaced.get("data", ""))):
        text = text.replace(old, new)
    path = folder / name
    path.write_text(text)
    run = airflow.run(airflow.load(path, name.removesuffix(".py")))
    assert run.state == "success", run.errors
    return run


def test_every_page_and_every_snippet_is_run_somewhere() -> None:
    assert [page.name for page in (CHECKOUT / "docs").glob("*.md")] == ["from-git-config.md"]
    assert MOVING.snippets.keys() == RUN.keys()
    for name, place in RUN.items():
        assert name in (CHECKOUT / place).read_text(), place


def test_the_commits_of_a_release_that_touched_the_code_are_run(
    airflow: Runner, repository: Repository, data: str, tmp_path: Path
) -> None:
    run = run_snippet(airflow, tmp_path, "commits_of_a_release.py", repo=repository.url, data=data)
    better = repository.sha("v2^{commit}~1")
    assert run.xcom("commits") == [better]
    [indexes] = [run.xcom("report")["indexes"]]
    assert indexes["0"]["prediction"]["body"] == "the longest of all t"
    assert indexes["0"]["checkout"]["commit"] == better


def test_what_the_branch_held_is_taken_for_the_paths_that_matter(
    airflow: Runner, repository: Repository, tmp_path: Path
) -> None:
    run = run_snippet(airflow, tmp_path, "as_of.py", repo=repository.url)
    assert run.xcom("checkout")["commit"] == repository.sha("main~1")


def test_codecommit_needs_the_aws_connection_alone(
    airflow: Runner, local_sagemaker: LocalSageMaker, data: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    served = tmp_path / "served" / "v1" / "repos" / "word-language-model"
    served.parent.mkdir(parents=True)
    scripts = Page("README.md").snippets
    commit = Repository(served).commit({f"src/{name}": scripts[name].encode() for name in ("train.py", "serve.py")})
    info = local_sagemaker.info
    codecommit = CodeCommit(AwsKeys(info.access_key_id, info.secret_access_key), "us-east-1")
    with serve_https(tmp_path / "served", tmp_path) as (server, authority), proxy_to(server.port) as proxy:
        server.judge = codecommit.lets_in
        monkeypatch.setenv("https_proxy", proxy)
        monkeypatch.setenv("GIT_SSL_CAINFO", str(authority))
        run = run_snippet(airflow, tmp_path, "codecommit.py", data=data)
    assert run.xcom("train_deploy_predict.checkout")["commit"] == commit
    assert run.xcom("train_deploy_predict.predict")["body"] == "the longest of all t"


@pytest.mark.slow
def test_the_commands_make_the_connections_that_the_snippet_uses(
    airflow: Runner,
    local_sagemaker: LocalSageMaker,
    repository: Repository,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    commands = [command.replace(REPO, repository.url) for command in MOVING.commands]
    assert [command.split()[:3] for command in commands] == [["airflow", "connections", "add"]] * 2
    assert MOVING.commands[0] in Page("README.md").commands
    token, key = "a-token-for-the-docs", tmp_path / "deploy_key"
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", key], check=True)
    commands[1] = (
        commands[1].replace("/run/secrets/deploy_key", str(key)).replace("/etc/ssh/ssh_known_hosts", "/dev/null")
    )
    environment = {**os.environ, "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"}
    for command in commands:
        subprocess.run(["bash", "-c", command], env={**environment, "GIT_TOKEN": token}, check=True)
    subprocess.run(["airflow", "connections", "export", tmp_path / "stored.json"], env=environment, check=True)
    for name, connection in json.loads((tmp_path / "stored.json").read_text()).items():
        # Where there is no API server, tasks look into the environment alone.
        monkeypatch.setenv(f"AIRFLOW_CONN_{name.upper()}", json.dumps(connection))
    run = run_snippet(airflow, tmp_path, "with_connection.py")
    assert token in read_source(None, "main", None, "my_git").credentials.secrets()
    assert read_source(None, "main", None, "my_git_ssh").url == "git@github.com:you/word-language-model.git"
    package = run.xcom("package")
    assert package["commit"] == repository.sha("main")
    _check_manifest(local_sagemaker, package)


def _check_manifest(server: LocalSageMaker, package: dict[str, str]) -> None:
    """What the page says of the manifest, checked with nothing of ours."""
    s3 = client(server, "s3")
    manifest, archive = (
        s3.get_object(Bucket=uri.split("/")[2], Key=uri.split("/", 3)[3])["Body"].read()
        for uri in (package["manifest_uri"], package["s3_uri"])
    )
    said = json.loads(manifest)
    assert said["digest"] == package["digest"] == hashlib.sha256(gzip.decompress(archive)).hexdigest()
    assert said["commit"] == package["commit"]
