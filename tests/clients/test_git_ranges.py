"""Paths and ranges: which commits a branch is followed back to, and how little of the remote that takes."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from airflow_sm_git.clients.git import GitClient
from airflow_sm_git.core.errors import BadParameter, RefNotFound
from airflow_sm_git.core.source import Source
from tests.git_server import FIRST_COMMIT, GitServer, Repository


def at(commit: int) -> datetime:
    """When the commit of that number was made."""
    return datetime.fromtimestamp(FIRST_COMMIT, UTC) + timedelta(hours=commit)


def test_with_paths_it_is_the_last_commit_that_changed_one_of_them(repository: Repository, client: GitClient) -> None:
    shas = repository.commits([{"src/train.py": b"1"}, {"lib/a.py": b"1"}, {"src/train.py": b"2"}, {"README.md": b"1"}])
    repository.tag("v1", shas[1])
    source = Source(repository.url, "main")
    for paths, number in {("src",): 2, ("lib",): 1, ("lib", "src/train.py"): 2, ("README.md",): 3, (".",): 3}.items():
        assert client.resolve(source, paths=paths).commit == shas[number], paths
    for start in ("v1", shas[1], shas[1][:9]):
        assert client.resolve(Source(repository.url, start), paths=["src"]).commit == shas[0]
    assert client.resolve(source, paths=["src"], as_of=at(2)).commit == shas[0]
    assert client.resolve(source, paths=["src"]) == client.resolve(source, as_of=at(3))


def test_a_merge_changed_what_it_brought_to_the_branch_and_the_side_is_not_the_branch(
    repository: Repository, client: GitClient
) -> None:
    first = repository.commit({"src/train.py": b"1", "x": b""})
    side = repository.commit({"src/train.py": b"2"}, branch="side", start=first)
    merge = repository.commit({"src/train.py": b"2"}, merge=side)
    repository.commit({"x": b"2"})
    assert client.resolve(Source(repository.url), paths=["src"]).commit == merge
    assert client.resolve(Source(repository.url), paths=["src"], as_of=at(2)).commit == first


def test_a_path_means_what_it_spells(repository: Repository, client: GitClient) -> None:
    names = ("*", ":(top)x", "[ab].py", "-x", "grüße")
    shas = repository.commits([{name: b"1"} for name in names] + [{"a.py": b"1"}])
    for name, sha in zip(names, shas, strict=False):
        assert client.resolve(Source(repository.url), paths=[name]).commit == sha
    for outside in ("../x", "/etc", "a/../../b", "a\nb", ""):
        with pytest.raises(BadParameter, match=r"^paths="):
            client.resolve(Source(repository.url), paths=[outside])
        with pytest.raises(BadParameter, match=r"^paths="):
            client.commits(Source(repository.url), paths=[outside])
    with pytest.raises(BadParameter, match=r"must be a list"):
        client.resolve(Source(repository.url), paths="src")


@pytest.mark.parametrize(
    ("path", "said"),
    [
        ("scr", "changed 'scr'. Did you mean 'src'?"),
        ("src/tarin.py", "Did you mean 'src/train.py'?"),
        ("src/none/at/all", "There is 'src/train.py'."),
        ("zzz", "There is 'README.md', 'src'."),
    ],
)
def test_paths_that_nothing_changed_say_what_there_is(
    repository: Repository, client: GitClient, path: str, said: str
) -> None:
    repository.commits([{"README.md": b"1"}, {"src/train.py": b"1"}])
    with pytest.raises(RefNotFound) as error:
        client.resolve(Source(repository.url), paths=[path])
    assert said in str(error.value)


def test_paths_that_came_later_say_so(repository: Repository, client: GitClient) -> None:
    repository.commits([{"README.md": b"1"}, {"src/train.py": b"1"}])
    with pytest.raises(RefNotFound, match=r"at or before 2024-01-01T01:00.*changed 'src'\. Choose a later time"):
        client.resolve(Source(repository.url), paths=["src"], as_of=at(1))


def long_history(repository: Repository, count: int = 1200) -> list[str]:
    """Commits of which the tenth alone changed ``seldom``, and each third ``often``."""
    changes = [{"noise": b"%d" % n} | ({"often/x": b"%d" % n} if n % 3 == 0 else {}) for n in range(count)]
    changes[10] |= {"seldom": b"1"}
    return repository.commits(changes)


def test_no_more_history_is_fetched_than_the_answer_needs(
    repository: Repository, server: GitServer, client: GitClient, tmp_path: Path
) -> None:
    shas = long_history(repository)
    source = Source(server.url("models.git"))
    assert client.resolve(source, paths=["often"]).commit == shas[1197]
    assert server.packs == 1
    some = server.sent
    assert client.resolve(source, paths=["seldom"]).commit == shas[10]
    assert server.packs == 2 and server.sent > some * 1.5
    assert client.resolve(source, paths=["often"], as_of=at(50)).commit == shas[48]
    assert server.packs == 2
    # The oldest commit that was fetched looks as if it had changed everything; it did not.
    fresh = GitClient(tmp_path / "fresh", allowed_schemes={"http"})
    assert fresh.resolve(source, paths=["seldom"]).commit == shas[10]


def test_a_tip_that_moved_costs_its_new_commits_alone(
    repository: Repository, server: GitServer, client: GitClient
) -> None:
    long_history(repository)
    source = Source(server.url("models.git"))
    client.resolve(source, paths=["seldom"])
    before = server.sent
    new = repository.commit({"often/x": b"new"})
    assert client.resolve(source).commit == new  # this alone would cut the history off
    assert client.resolve(source, paths=["often"]).commit == new
    assert client.resolve(source, paths=["seldom"]).subject == "commit 11"
    assert server.sent - before < 4000
