"""``commit_range``: the commits that a DAG maps its chain over."""

from __future__ import annotations

from pathlib import Path

import pytest

from airflow_sm_git import commit_range
from airflow_sm_git.core.errors import BadParameter
from tests.git_server import Repository


@pytest.fixture
def repository(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Repository:
    monkeypatch.setenv("AIRFLOW__SM_GIT__ALLOWED_SCHEMES", "file")
    monkeypatch.setenv("AIRFLOW__SM_GIT__CACHE_DIR", str(tmp_path / "cache"))
    return Repository(tmp_path / "models.git")


def test_a_range_gives_the_commits_after_its_start_oldest_first(repository: Repository) -> None:
    shas = repository.commits([{f"{'src' if n % 2 else 'lib'}/{n}": b""} for n in range(6)])
    repository.tag("v1", shas[1])
    url = repository.url
    assert commit_range("v1..main", repo=url) == shas[2:]
    assert commit_range("v1..", repo=url) == shas[2:]
    assert commit_range(f"v1..{shas[3]}", repo=url) == shas[2:4]
    assert commit_range("v1..main", repo=url, paths=["src"]) == shas[3::2]
    assert commit_range("v1..main", repo=url, limit=1) == shas[5:]
    assert commit_range("main..main", repo=url) == []
    assert commit_range("main..main", repo=url, paths=["src"]) == []
    assert commit_range("v1..main", git_config={"repo": url}) == shas[2:]


def test_the_newest_commits_of_a_ref_need_a_limit(repository: Repository) -> None:
    shas = repository.commits([{"x": b"%d" % n} for n in range(4)])
    for call in ({"ref": "main"}, {"commits": "main"}, {}):
        assert commit_range(repo=repository.url, limit=2, **call) == shas[2:]  # type: ignore[arg-type]
        with pytest.raises(BadParameter, match=r"limit=None.*Give limit, or a start"):
            commit_range(repo=repository.url, **call)  # type: ignore[arg-type]
    assert commit_range(git_config={"repo": repository.url, "branch": "main"}, limit=1) == shas[3:]


def test_two_ways_to_say_what_are_refused(repository: Repository) -> None:
    with pytest.raises(BadParameter, match="together with ref"):
        commit_range("v1..main", ref="main", repo=repository.url)
    for key in ("branch", "commit"):
        with pytest.raises(BadParameter, match=r"commits='v1\.\.main'.*git_config's own"):
            commit_range("v1..main", git_config={"repo": repository.url, key: "main"})
    with pytest.raises(BadParameter, match=r"Write v1\.\.main"):
        commit_range("v1...main", repo=repository.url)


def test_what_is_odd_about_git_config_is_said(repository: Repository, caplog: pytest.LogCaptureFixture) -> None:
    shas = repository.commits([{"x": b"1"}])
    assert commit_range(git_config={"repo": repository.url, "username": "me"}, limit=1) == shas
    assert "username" in caplog.text
