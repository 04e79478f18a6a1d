"""No commit can fill the disk or the memory of a worker: what is too large is given up while it comes."""

from __future__ import annotations

import io
import os
from pathlib import Path

import pytest

from airflow_sm_git.clients.git import GitClient
from airflow_sm_git.core.errors import UnsafeTree
from airflow_sm_git.core.limits import Limits
from tests.clients.packaging import git_at_work
from tests.git_server import Repository, serve

LIMITS = Limits(max_package_size=1 << 20)


@pytest.fixture
def client(tmp_path: Path) -> GitClient:
    return GitClient(tmp_path / "cache", allowed_schemes=["http"], limits=LIMITS)


def test_a_fetch_ends_when_it_has_brought_more_than_any_package_may_hold(client: GitClient, tmp_path: Path) -> None:
    repository = Repository(tmp_path / "repository")
    commit = repository.commit({"src/train.py": b"", "src/large.bin": os.urandom(80 << 20)})
    out = io.BytesIO()
    with serve(tmp_path) as server:
        url = server.url("repository")
        with pytest.raises(UnsafeTree, match=r"sends more than 68157440 bytes.*\[sm_git\] max_package_size"):
            client.package(url, commit, source_dir="src", entry_point="train.py", out=out)
        largest = max(file.stat().st_size for file in (tmp_path / "cache").rglob("*") if file.is_file())
        assert largest <= 65 << 20
        assert not out.getvalue()
        info = client.package(url, commit, source_dir=None, entry_point="src/train.py", out=out)
    assert info.file_count == 1, "what is small of the same commit can still be had"
    assert git_at_work(tmp_path) == []


def test_a_commit_that_is_large_itself_is_refused(client: GitClient, tmp_path: Path) -> None:
    repository = Repository(tmp_path / "repository")
    commit = repository.commit({"train.py": b""}, subject="x" * (1 << 20))
    with serve(tmp_path) as server, pytest.raises(UnsafeTree, match=f"{commit} is a commit of 10487.. bytes"):
        client.package(server.url("repository"), commit, source_dir=None, entry_point="train.py", out=io.BytesIO())
