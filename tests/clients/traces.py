"""What the tests of traces share: a real run to trace, and ways to look at a trace and to change what it finds."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import pytest

from airflow_sm_git.core.trace import Node, Trace
from airflow_sm_git.local.pytest_plugin import LocalSageMaker
from tests import steps
from tests.airflow_runner import Run, Runner
from tests.git_server import Repository
from tests.local.sagemaker_requests import BUCKET, IMAGE, ROLE, client

FAST = {"check_interval": 0.05}


@dataclass
class Scene:
    """A run of the chain that has kept its endpoint.

    :param commit: what the run was of.
    """

    server: LocalSageMaker
    repository: Repository
    commit: str
    run: Run

    @cached_property
    def records(self) -> dict[str, Any]:
        """What each step returned."""
        return {
            step: self.run.xcom(f"train_deploy_predict.{step}") for step in ("checkout", "package", "train", "deploy")
        }

    @property
    def endpoint(self) -> str:
        """Its name."""
        return str(self.records["deploy"]["endpoint_name"])

    @property
    def model_data(self) -> str:
        """The URI of the archive that the endpoint serves."""
        model = client(self.server, "sagemaker").describe_model(ModelName=self.records["deploy"]["model_name"])
        return str(model["PrimaryContainer"]["ModelDataUrl"])


@contextmanager
def play(server: LocalSageMaker, folder: Path) -> Iterator[Scene]:
    """Run the chain on a repository in a folder; what it kept is removed in the end."""
    from airflow_sm_git import train_deploy_predict

    repository = Repository(folder / "repository")
    commit = repository.commit(steps.files(**{"src/lib/util.py": f"# {folder}\n"}))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("AIRFLOW_CONN_AWS_DEFAULT", server.env["AIRFLOW_CONN_AWS_DEFAULT"])
        patch.setenv("AIRFLOW__SM_GIT__ALLOWED_SCHEMES", "file")
        patch.setenv("AIRFLOW__SM_GIT__CACHE_DIR", str(folder / "cache"))
        runner = Runner(server)
        with runner.dag() as dag:
            train_deploy_predict(
                repo=repository.url,
                source_dir="src",
                entry_point="train.py",
                hosting_entry_point="serve.py",
                image_uri=IMAGE,
                role=ROLE,
                data="hi",
                policy="never",
                **{step: FAST for step in ("train", "deploy", "teardown")},  # type: ignore[arg-type]
            )
        run = runner.run(dag)
    assert run.errors.keys() <= {"train_deploy_predict.teardown"}, run.errors
    scene = Scene(server, repository, commit, run)
    yield scene
    steps.clean_up(server, scene.endpoint)


def nodes(found: Trace, kind: str) -> list[Node]:
    """All nodes of a kind, from the top."""
    return [node for node in found.tree.walk() if node.kind == kind]


def node(found: Trace, kind: str) -> Node:
    """The first node of a kind."""
    return nodes(found, kind)[0]


@contextmanager
def replaced(
    server: LocalSageMaker, uri: str, change: Callable[[bytes], bytes], metadata: Mapping[str, str] | None = None
) -> Iterator[None]:
    """Another object in the place of one, as somebody with access to the bucket would put it there.

    :param metadata: None leaves them as they are.
    """
    s3, key = client(server, "s3"), uri.removeprefix(f"s3://{BUCKET}/")
    before = s3.get_object(Bucket=BUCKET, Key=key)
    body = before["Body"].read()
    said = before["Metadata"] if metadata is None else dict(metadata)
    s3.put_object(Bucket=BUCKET, Key=key, Body=change(body), Metadata=said)
    try:
        yield
    finally:
        s3.put_object(Bucket=BUCKET, Key=key, Body=body, Metadata=before["Metadata"])


@contextmanager
def deleted(server: LocalSageMaker, uri: str) -> Iterator[None]:
    """An object that is not there meanwhile."""
    with replaced(server, uri, bytes):
        client(server, "s3").delete_object(Bucket=BUCKET, Key=uri.removeprefix(f"s3://{BUCKET}/"))
        yield
