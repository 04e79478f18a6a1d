"""What the SageMaker SDK sends, recorded once for all tests of this folder."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.git_server import Repository
from tests.sdk.cases import CASES, FILES, FROM_GIT, REPO
from tests.sdk.peer import run_under_sdk
from tests.sdk.recorder import Recorder, recording


@pytest.fixture(scope="session")
def sdk_repository(tmp_path_factory: pytest.TempPathFactory) -> Repository:
    """A repository of one commit with the cases' files."""
    repository = Repository(tmp_path_factory.mktemp("sdk-repository") / "repo.git")
    repository.commit({name: text.encode() for name, text in FILES.items()}, executable=["code/run.sh"])
    return repository


@pytest.fixture(scope="session")
def recorded(sdk_repository: Repository, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Recorder]:
    """Every case's requests and objects."""
    home = tmp_path_factory.mktemp("sdk-home")
    for name, text in FILES.items():
        (home / name).parent.mkdir(parents=True, exist_ok=True)
        (home / name).write_text(text)
    # The SDK clones from https and ssh only; git itself may be told where that URL leads.
    (home / ".gitconfig").write_text(f'[url "{sdk_repository.url}"]\n\tinsteadOf = {REPO}\n')
    with recording() as recorder:
        env = {"AWS_ENDPOINT_URL": recorder.url, "AWS_DEFAULT_REGION": "us-east-1"}
        cases = [case.sdk() for case in [*CASES, *FROM_GIT]]
        assert run_under_sdk("record_program.py", cases, env=env, home=home) == len(cases)
    yield recorder
