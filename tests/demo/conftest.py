"""The demo's repository and text, built once."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

import pytest

from airflow_sm_git.demo.repository import Commits, make_repository, write_corpus


@dataclass(frozen=True)
class Trained:
    """A finished run of train.py: what it printed, and where its code and its model lie."""

    code: Path
    model: Path
    output: Path
    printed: str


def load(script: Path) -> ModuleType:
    """Import a script as the model server does: by its path, once more for each commit."""
    spec = importlib.util.spec_from_file_location(f"demo_{script.stem}", script)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def check_out(repository: Commits, sha: str, directory: Path) -> Path:
    """Write a commit's files into a new directory."""
    directory.mkdir(parents=True)
    archive = subprocess.run(
        ["git", "-C", str(repository.path), "archive", sha], check=True, capture_output=True
    ).stdout
    subprocess.run(["tar", "-x", "-C", str(directory)], input=archive, check=True)
    return directory


def train(code: Path, data: Path, directory: Path, *arguments: str) -> Trained:
    """Run train.py as script mode does: directories in the environment, hyperparameters as arguments."""
    model, output = directory / "model", directory / "output"
    done = subprocess.run(
        [sys.executable, "-B", "train.py", *arguments],
        cwd=code,
        env={
            "PATH": os.environ["PATH"],
            "SM_CHANNEL_TRAINING": str(data),
            "SM_MODEL_DIR": str(model),
            "SM_OUTPUT_DATA_DIR": str(output),
        },
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    return Trained(code, model, output, done.stdout)


@pytest.fixture(scope="session")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Commits:
    """The demo's repository; not to be changed."""
    return make_repository(tmp_path_factory.mktemp("demo") / "repository")


@pytest.fixture(scope="session")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder with the demo's text."""
    folder = tmp_path_factory.mktemp("corpus")
    write_corpus(folder)
    return folder


@pytest.fixture(scope="session")
def scripts(repository: Commits, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder with the last commit's files."""
    return check_out(repository, repository.head.sha, tmp_path_factory.mktemp("scripts") / "code")


@pytest.fixture(scope="session")
def newest(scripts: Path, corpus: Path, tmp_path_factory: pytest.TempPathFactory) -> Trained:
    """The last commit, trained for real, though for two epochs only."""
    return train(scripts, corpus, tmp_path_factory.mktemp("newest"), "--epochs", "2")
