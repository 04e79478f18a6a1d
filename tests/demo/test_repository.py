from __future__ import annotations

import os
import subprocess
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from airflow_sm_git.core.errors import BadParameter, SmGitError
from airflow_sm_git.demo.repository import Commits, make_repository

SHAS = (
    "fa0f514dd6fa39062313e9b9dcf4d1b22f920e8f",
    "11d381d51752816681e3c9170430ad19f6c6bfc3",
    "f15be1e64faab1575d06d7941dd412fa5f0bae41",
    "b25da4308f7fe359fe9a2c430dbf7391df8d14e1",
    "a5d9a675e5aa6ac3fa0921777c1b6dda099f61d0",
)


def git(*arguments: str, cwd: Path) -> str:
    """Run git with a configuration of the test's own."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}
    identity = ("-c", "user.name=Test", "-c", "user.email=test@example.com")
    environment |= {"GIT_CONFIG_NOSYSTEM": "1", "GIT_CONFIG_GLOBAL": os.devnull}
    command = ["git", *identity, *arguments]
    return subprocess.run(command, cwd=cwd, env=environment, check=True, capture_output=True, text=True).stdout.strip()


def test_the_commits_are_the_same_everywhere(repository: Commits) -> None:
    assert repository.shas == SHAS
    assert repository.head.subject == "Learn by Adam"
    assert repository.head.author == "Ada Reyes"
    assert repository.head.committed_at == "2026-03-16T08:58:00+01:00"


def test_the_users_git_configuration_does_not_act(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    hooks = tmp_path / "template" / "hooks"
    hooks.mkdir(parents=True)
    (hooks / "post-checkout").write_text("#!/bin/sh\ntouch ran\n")
    (hooks / "post-checkout").chmod(0o755)
    home = tmp_path / "home"
    home.mkdir()
    (home / ".gitconfig").write_text(
        "[user]\nname = Someone\n[commit]\ngpgsign = true\n[core]\nautocrlf = true\n[i18n]\ncommitEncoding = latin1\n"
        f"[init]\ndefaultBranch = trunk\ntemplateDir = {tmp_path / 'template'}\n"
    )
    settings = {
        "HOME": str(home),
        "GIT_AUTHOR_NAME": "Someone",
        "GIT_COMMITTER_DATE": "2001-01-01T00:00:00Z",
        "GIT_DEFAULT_HASH": "sha256",
        "GIT_DIR": str(tmp_path / "elsewhere"),
        "TZ": "Asia/Tokyo",
        "LC_ALL": "tr_TR.UTF-8",
    }
    for name, value in settings.items():
        monkeypatch.setenv(name, value)
    mask = os.umask(0o077)
    try:
        built = make_repository(tmp_path / "repository")
    finally:
        os.umask(mask)
    assert built.shas == SHAS
    assert git("symbolic-ref", "HEAD", cwd=built.path) == "refs/heads/main"
    assert b"\r" not in (built.path / "train.py").read_bytes()
    assert not (built.path / ".git" / "hooks").exists()


def test_the_working_tree_is_that_of_the_last_commit_and_clean(repository: Commits) -> None:
    assert git("status", "--porcelain", cwd=repository.path) == ""
    assert git("rev-parse", "HEAD", cwd=repository.path) == repository.head.sha
    assert git("fsck", "--strict", cwd=repository.path) == ""


def test_nothing_lies_beside_the_repository(tmp_path: Path) -> None:
    make_repository(tmp_path / "repository")
    assert os.listdir(tmp_path) == ["repository"]


@pytest.mark.parametrize("protocol", ["0", "2"])
def test_any_commit_can_be_fetched_by_its_sha_without_blobs(repository: Commits, tmp_path: Path, protocol: str) -> None:
    git("init", "--quiet", ".", cwd=tmp_path)
    git("remote", "add", "origin", repository.url, cwd=tmp_path)
    fetch = ("-c", f"protocol.version={protocol}", "fetch", "--quiet", "--depth=1", "--filter=blob:none")
    git(*fetch, "origin", repository.shas[1], cwd=tmp_path)
    missing = git("rev-list", "--objects", "--missing=print", repository.shas[1], cwd=tmp_path)
    assert missing.count("\n?") == 4


def test_a_repository_built_before_is_taken_as_it_is(tmp_path: Path) -> None:
    built = make_repository(tmp_path / "repository")
    (built.path / "train.py").write_text("# being edited\n")
    assert make_repository(tmp_path / "repository") == built
    assert (built.path / "train.py").read_text() == "# being edited\n"


def test_commits_added_since_are_told_too(tmp_path: Path) -> None:
    built = make_repository(tmp_path / "repository")
    (built.path / "train.py").write_text("print('mine')\n")
    git("commit", "--quiet", "-am", "Try something", cwd=built.path)
    found = make_repository(tmp_path / "repository")
    assert found.commits[:-1] == built.commits
    assert found.head.subject == "Try something"


def test_an_empty_folder_is_filled(tmp_path: Path) -> None:
    (tmp_path / "repository").mkdir()
    assert make_repository(tmp_path / "repository").shas == SHAS


@pytest.mark.parametrize("kind", ["file", "folder", "empty repository", "other repository", "no main"])
def test_something_else_at_the_path_is_an_error_and_stays(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "taken"
    if kind == "file":
        path.write_text("mine")
    else:
        path.mkdir()
        (path / "mine").write_text("mine")
    if kind.endswith("repository"):
        git("init", "--quiet", "--initial-branch=main", ".", cwd=path)
    if kind == "other repository":
        git("add", "mine", cwd=path)
        git("commit", "--quiet", "-m", "Mine", cwd=path)
    if kind == "no main":
        (path / "mine").unlink()
        git("branch", "--quiet", "-m", "main", "trunk", cwd=make_repository(path).path)
    with pytest.raises(BadParameter, match="holds something else than the demo's repository") as caught:
        make_repository(path)
    assert caught.value.value == str(path)
    assert os.listdir(tmp_path) == ["taken"]


def test_a_folder_inside_the_users_own_repository_gets_one_of_its_own(tmp_path: Path) -> None:
    git("init", "--quiet", ".", cwd=tmp_path)
    built = make_repository(tmp_path / "inside")
    assert built.shas == SHAS
    assert git("for-each-ref", cwd=tmp_path) == ""


def test_many_at_once_get_the_same_repository(tmp_path: Path) -> None:
    with ThreadPoolExecutor(4) as pool:
        built = list(pool.map(make_repository, [tmp_path / "repository"] * 4))
    assert {commits.shas for commits in built} == {SHAS}
    assert os.listdir(tmp_path) == ["repository"]


def test_without_git_the_error_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(SmGitError, match="git is not installed"):
        make_repository(tmp_path / "repository")
