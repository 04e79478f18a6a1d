"""Our packages and those that the SageMaker Python SDK 2.257 makes of the same commit through its ``git_config``."""

from __future__ import annotations

import io
import json
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from airflow_sm_git.clients.git import GitClient, PackageInfo
from airflow_sm_git.clients.s3 import Store
from airflow_sm_git.core.source import parse_source
from airflow_sm_git.local.pytest_plugin import LocalSageMaker
from tests.git_server import Repository
from tests.sdk.cases import FROM_GIT, Case
from tests.sdk.recorder import MODEL, Recorder

# The first of them may have to install the SDK.
pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]
GIT_CASES = {case.name: case for case in FROM_GIT}
SAME = ["git-directory-and-dependencies", "git-directory", "git-script-alone"]


@dataclass(frozen=True)
class Member:
    """What a member of an archive says; times, owners and the order of members are left out."""

    name: str
    mode: int
    content: bytes


@dataclass(frozen=True)
class Packed:
    """A package of ours."""

    info: PackageInfo
    data: bytes


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> GitClient:
    """A client with an empty cache."""
    return GitClient(tmp_path_factory.mktemp("mirrors"), allowed_schemes={"file"})


@pytest.mark.parametrize("name", SAME)
def test_a_package_has_the_files_of_the_sdks(
    name: str, recorded: Recorder, client: GitClient, sdk_repository: Repository
) -> None:
    theirs = set(_files(_sdk_package(recorded, name)))
    assert theirs
    assert set(_files(_ours(client, sdk_repository, GIT_CASES[name]).data)) == theirs


@pytest.mark.parametrize("name", SAME)
def test_a_package_names_the_script_as_the_sdk_does(
    name: str, recorded: Recorder, client: GitClient, sdk_repository: Repository
) -> None:
    program = json.loads(_hyperparameters(recorded, name)["sagemaker_program"])
    assert _ours(client, sdk_repository, GIT_CASES[name]).info.entry_point == program


def test_of_a_whole_repository_ours_lacks_the_git_directory_alone(
    recorded: Recorder, client: GitClient, sdk_repository: Repository
) -> None:
    theirs = set(_files(_sdk_package(recorded, "git-whole-repository")))
    ours = set(_files(_ours(client, sdk_repository, GIT_CASES["git-whole-repository"]).data))
    assert ours < theirs
    assert {member.name.partition("/")[0] for member in theirs - ours} == {".git"}


@pytest.mark.parametrize("name", SAME)
def test_a_repacked_model_has_the_files_of_the_sdks(
    name: str, recorded: Recorder, client: GitClient, sdk_repository: Repository, local_sagemaker: LocalSageMaker
) -> None:
    ours = _repacked(local_sagemaker.client("s3"), _ours(client, sdk_repository, GIT_CASES[name]))
    container = recorded.requests[name]["CreateModel"]["PrimaryContainer"]
    theirs = set(_files(recorded.objects[container["ModelDataUrl"].removeprefix("s3://")]))
    assert f"code/{container['Environment']['SAGEMAKER_PROGRAM']}" in {member.name for member in theirs}
    # In a repacked model the SDK puts dependencies under code/lib/, although in training they lie beside the script.
    # One package serves us for both, so that what a script imports in training it imports in hosting too.
    beside = {replace(member, name=member.name.replace("code/lib/", "code/", 1)) for member in theirs}
    assert (beside == theirs) == (name != "git-directory-and-dependencies")
    assert set(_files(ours)) == beside


def _repacked(s3: Any, packed: Packed) -> bytes:
    """The artefact of every training, with the package under ``code/``."""
    s3.create_bucket(Bucket="repacked")
    model, package = "in/model.tar.gz", f"{packed.info.digest}/sourcedir.tar.gz"
    s3.put_object(Bucket="repacked", Key=model, Body=MODEL)
    s3.put_object(Bucket="repacked", Key=package, Body=packed.data)
    store = Store(s3, "s3://repacked/out")
    uri = store.repack(f"s3://repacked/{model}", f"s3://repacked/{package}", packed.info.digest)
    return b"".join(store.read(uri))


def _ours(client: GitClient, repository: Repository, case: Case) -> Packed:
    arguments = case.arguments()
    out = io.BytesIO()
    info = client.package(
        repository.url,
        client.resolve(parse_source(repository.url, arguments["git_config"]["branch"])).commit,
        source_dir=arguments.get("source_dir"),
        entry_point=arguments["entry_point"],
        dependencies=arguments.get("dependencies", ()),
        out=out,
    )
    return Packed(info, out.getvalue())


def _sdk_package(recorded: Recorder, name: str) -> bytes:
    uri = json.loads(_hyperparameters(recorded, name)["sagemaker_submit_directory"])
    return recorded.objects[uri.removeprefix("s3://")]


def _hyperparameters(recorded: Recorder, name: str) -> dict[str, Any]:
    found: dict[str, Any] = recorded.requests[name]["CreateTrainingJob"]["HyperParameters"]
    return found


def _files(archive: bytes) -> Iterator[Member]:
    """The files. The SDK writes directories too, which hold nothing that the files' names do not say."""
    with tarfile.open(fileobj=io.BytesIO(archive)) as tar:
        for member in tar:
            file = tar.extractfile(member) if member.isfile() else None
            if file:
                yield Member(str(Path(member.name)).lstrip("/"), member.mode, file.read())
