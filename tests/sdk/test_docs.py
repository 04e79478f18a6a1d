"""What the documentation shows of the SageMaker SDK is what the SDK does, and our side of it gives the same answer."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from airflow_sm_git.local.pytest_plugin import LocalSageMaker
from tests.airflow_runner import Runner
from tests.git_server import Repository
from tests.local.sagemaker_requests import client
from tests.sdk.peer import run_under_sdk
from tests.snippets import Page

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]
MOVING = Page("docs/from-git-config.md")
REPO = "https://github.com/you/word-language-model"
DATA = "s3://your-bucket/corpus/"
BUCKET = "corpus-of-the-docs"


@pytest.fixture
def repository(tmp_path: Path) -> Repository:
    scripts = Page("README.md").snippets
    made = Repository(tmp_path / "repository")
    made.commit({f"src/{name}": scripts[name].encode() for name in ("train.py", "serve.py")})
    return made


@pytest.fixture
def data(local_sagemaker: LocalSageMaker) -> str:
    s3 = client(local_sagemaker, "s3")
    s3.create_bucket(Bucket=BUCKET)
    s3.put_object(Bucket=BUCKET, Key="corpus/lines.txt", Body=b"short\nthe longest of all the lines\n")
    return f"s3://{BUCKET}/corpus/"


def endpoints(server: LocalSageMaker) -> list[str]:
    found = client(server, "sagemaker").list_endpoints(MaxResults=100)["Endpoints"]
    return [endpoint["EndpointName"] for endpoint in found]


def test_moving_from_the_sdk_gives_the_same_answer(
    airflow: Runner, local_sagemaker: LocalSageMaker, repository: Repository, data: str, tmp_path: Path
) -> None:
    home = tmp_path / "sdk-user"
    home.mkdir()
    # The SDK clones from https and ssh only; git itself may be told where that URL leads.
    (home / ".gitconfig").write_text(f'[url "{repository.url}"]\n\tinsteadOf = {REPO}\n')
    # Without a bucket by configuration the SDK asks STS at a fixed host for the account.
    settings = {"SageMaker": {"PythonSDK": {"Modules": {"Session": {"DefaultS3Bucket": BUCKET}}}}}
    (home / "config.yaml").write_text(json.dumps({"SchemaVersion": "1.0", **settings}))
    env = {name: value for name, value in local_sagemaker.env.items() if name.startswith("AWS_")}
    env["SAGEMAKER_USER_CONFIG_OVERRIDE"] = str(home / "config.yaml")
    there = endpoints(local_sagemaker)
    before = run_under_sdk("snippet_program.py", MOVING.snippets["before.py"].replace(DATA, data), env=env, home=home)
    path = tmp_path / "after.py"
    path.write_text(MOVING.snippets["after.py"].replace(DATA, data).replace(REPO, repository.url))
    run = airflow.run(airflow.load(path, "from_git_config"))
    assert run.state == "success", run.errors
    answer = run.xcom("train_deploy_predict.predict")["body"]
    assert answer == "the longest of all t"
    assert before.rstrip().endswith(answer)
    assert endpoints(local_sagemaker) == there, "both sides have deleted theirs"
