from __future__ import annotations

import os
import subprocess
import threading
from pathlib import Path

import psutil
import pytest

from airflow_sm_git.clients.git import GitClient
from airflow_sm_git.core.errors import (
    BadParameter,
    RemoteError,
)
from airflow_sm_git.core.source import Source
from tests.clients.packaging import (
    DIGEST,
    FILES,
    fixed,
    in_another_process,
    package,
)
from tests.git_server import GitServer, Repository


def test_a_remote_that_is_not_there_is_said_to_be(server: GitServer, client: GitClient) -> None:
    with pytest.raises(RemoteError, match=r"nowhere\.git"):
        client.resolve(Source(server.url("nowhere.git")))
    with pytest.raises(RemoteError, match=r"127\.0\.0\.1:1/"):
        client.resolve(Source("http://127.0.0.1:1/x.git"))


@pytest.mark.timeout(40)  # git itself gives up after 60 s
def test_a_remote_that_stalls_is_given_up_and_leaves_no_process(
    repository: Repository, server: GitServer, tmp_path: Path
) -> None:
    commit = repository.commit(FILES)
    server.stalled = threading.Event()
    client = GitClient(tmp_path / "cache", allowed_schemes={"http"}, timeout=1)
    with pytest.raises(RemoteError, match="took longer than 1 s"):
        package(client, server.url("models.git"), commit)
    assert not [child for child in psutil.Process().children(recursive=True) if "git-remote" in child.name()]
    server.stalled.set()
    assert package(client, server.url("models.git"), commit)


def test_a_scheme_that_is_not_allowed_never_reaches_git(repository: Repository, tmp_path: Path) -> None:
    client = GitClient(tmp_path / "cache")
    with pytest.raises(BadParameter, match="'file' is not allowed"):
        client.resolve(Source(repository.url))
    assert not (tmp_path / "cache").exists()


def test_the_workers_git_configuration_and_variables_do_not_act(repository: Repository, tmp_path: Path) -> None:
    commit = fixed(repository)
    home = tmp_path / "home"
    home.mkdir()
    (home / ".gitconfig").write_text(
        f'[url "file:///nowhere/"]\n\tinsteadOf = file://\n[core]\n\tfsmonitor = touch {home}/ran\n'
        '[protocol]\n\tallow = never\n[protocol "file"]\n\tallow = never\n[core]\n\tautocrlf = true\n'
    )
    variables = {
        "HOME": str(home),
        "GIT_DIR": "/nowhere",
        "GIT_OBJECT_DIRECTORY": "/nowhere",
        "GIT_SSH_COMMAND": "false",
        "GIT_CONFIG_COUNT": "1",
        "GIT_CONFIG_KEY_0": "protocol.file.allow",
        "GIT_CONFIG_VALUE_0": "never",
    }
    plain = subprocess.run(["git", "ls-remote", repository.url], env=os.environ | variables, capture_output=True)
    assert plain.returncode, "the configuration does not do what the test is about"
    assert in_another_process(tmp_path / "c", repository.url, commit, **variables) == [DIGEST, ""]
    assert not (home / "ran").exists()


def test_a_missing_or_old_git_is_said_clearly(repository: Repository, tmp_path: Path) -> None:
    commit = repository.commit(FILES)
    tools = tmp_path / "tools"
    tools.mkdir()
    (tools / "env").symlink_to("/usr/bin/env")
    said = in_another_process(tmp_path / "c", repository.url, commit, PATH=str(tools))[1]
    assert said.startswith("GitError: git cannot be run") and "Install git 2.39 or newer" in said
    (tools / "git").write_text("#!/bin/sh\necho git version 2.17.1\n")
    (tools / "git").chmod(0o755)
    said = in_another_process(tmp_path / "c", repository.url, commit, PATH=str(tools))[1]
    assert said.startswith("GitError: git 2.17.1 is too old")
