from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from airflow_sm_git.clients.git import GitClient
from airflow_sm_git.core.errors import (
    BadParameter,
    CommitGone,
    RefNotFound,
)
from airflow_sm_git.core.source import Source, parse_source
from tests.clients.packaging import (
    FILES,
)
from tests.git_server import FIRST_COMMIT, Repository


def at(commit: int) -> datetime:
    """When the commit of that number was made."""
    return datetime.fromtimestamp(FIRST_COMMIT, UTC) + timedelta(hours=commit)


def test_every_way_to_name_a_commit_gives_its_full_sha(repository: Repository, client: GitClient) -> None:
    first = repository.commit(FILES, subject="the first")
    second = repository.commit({"src/train.py": b"2"})
    repository.tag("light", first)
    repository.tag("noted", first, annotated=True)
    tag = repository.sha("refs/tags/noted")
    assert tag != first
    names = ["light", "noted", "tags/noted", "refs/tags/noted", first, first[:7], tag]
    for name in names:
        assert client.resolve(Source(repository.url, name)).commit == first, name
    for branch in (None, "HEAD", "main", "heads/main", "refs/heads/main"):
        assert client.resolve(Source(repository.url, branch)).commit == second, branch


def test_a_resolved_commit_says_all_about_itself(repository: Repository, client: GitClient) -> None:
    commit = repository.commit(FILES, subject="Grüße, für alle")
    resolved = client.resolve(Source(repository.url))
    assert resolved.commit == commit and resolved.tree == repository.sha(f"{commit}^{{tree}}")
    assert resolved.committed_at == "2024-01-01T01:00:00Z"
    assert resolved.author == "A U Thor <author@example.com>"
    assert resolved.subject == "Grüße, für alle"
    assert (resolved.repo, resolved.ref, resolved.web_url) == (repository.url, "main", None)


def test_an_unknown_ref_names_the_nearest(repository: Repository, client: GitClient) -> None:
    repository.commit(FILES, branch="main")
    with pytest.raises(RefNotFound, match=r"no branch, tag or commit 'mian'\. Did you mean 'main'"):
        client.resolve(Source(repository.url, "mian"))
    with pytest.raises(RefNotFound, match=r"'abcd123'\. It has 'main'"):
        client.resolve(Source(repository.url, "abcd123"))
    with pytest.raises(RefNotFound, match="no commit " + "a" * 40):
        client.resolve(Source(repository.url, "a" * 40))


def test_an_empty_repository_has_no_commit(repository: Repository, client: GitClient) -> None:
    with pytest.raises(RefNotFound, match="is empty"):
        client.resolve(Source(repository.url))


def test_a_name_of_both_a_branch_and_another_tag_is_refused_with_both_remedies(
    repository: Repository, client: GitClient
) -> None:
    first = repository.commit(FILES)
    second = repository.commit({"x": b"2"}, branch="v1", start=first)
    repository.tag("v1", first)
    with pytest.raises(BadParameter, match="'refs/heads/v1' or 'refs/tags/v1'"):
        client.resolve(Source(repository.url, "v1"))
    repository.tag("same", first, annotated=True)
    repository.move("same", first)
    assert client.resolve(Source(repository.url, "same")).commit == first
    assert client.resolve(Source(repository.url, "refs/heads/v1")).commit == second


def test_a_tag_of_a_tree_is_no_commit(repository: Repository, client: GitClient) -> None:
    commit = repository.commit(FILES)
    repository.tag("tree", repository.sha(f"{commit}^{{tree}}"))
    with pytest.raises(RefNotFound, match="is a tree, not a commit"):
        client.resolve(Source(repository.url, "tree"))


def test_a_pin_is_kept_though_the_branch_moves(repository: Repository, client: GitClient) -> None:
    first = repository.commit(FILES)
    second = repository.commit({"x": b"2"})
    assert client.resolve(Source(repository.url, "main"), pinned=first).commit == first
    assert client.resolve(Source(repository.url, "main")).commit == second


def test_a_pin_that_the_remote_no_longer_has_is_said_to_be_gone(repository: Repository, client: GitClient) -> None:
    first = repository.commit(FILES)
    lost = repository.commit({"x": b"2"})
    repository.move("main", first)
    repository.forget(lost)
    with pytest.raises(CommitGone, match=f"no longer has the commit {lost}.*repin=True"):
        client.resolve(Source(repository.url, "main"), pinned=lost)


def test_as_of_takes_the_last_commit_of_the_branch_itself_at_or_before_a_time(
    repository: Repository, client: GitClient
) -> None:
    first = repository.commit(FILES)
    side = repository.commit({"side": b""}, branch="side", start=first)
    merge = repository.commit({"x": b""}, merge=side)
    source = Source(repository.url)
    assert client.resolve(source, as_of=at(1)).commit == first
    assert client.resolve(source, as_of=at(2)).commit == first  # the side branch is not the branch
    assert client.resolve(source, as_of=at(3) - timedelta(seconds=1)).commit == first
    assert client.resolve(source, as_of=at(3)).commit == merge
    assert client.resolve(Source(repository.url, "main"), as_of=at(9)).commit == merge
    with pytest.raises(RefNotFound, match="no commit at or before"):
        client.resolve(source, as_of=at(0))


def test_as_of_needs_a_zone_and_something_that_moves(repository: Repository, client: GitClient) -> None:
    commit = repository.commit(FILES)
    repository.tag("v1", commit)
    with pytest.raises(BadParameter, match="no time zone"):
        client.resolve(Source(repository.url), as_of=at(1).replace(tzinfo=None))
    for fixed in ("v1", commit):
        with pytest.raises(BadParameter, match="is not a branch"):
            client.resolve(Source(repository.url, fixed), as_of=at(1))


def test_the_newest_commits_come_oldest_first_along_first_parents(repository: Repository, client: GitClient) -> None:
    first = repository.commit(FILES)
    second = repository.commit({"x": b"2"})
    side = repository.commit({"side": b""}, branch="side", start=first)
    merge = repository.commit({"x": b"3"}, merge=side)
    commits = client.commits(Source(repository.url), limit=2)
    assert [commit.commit for commit in commits] == [second, merge]
    assert [commit.commit for commit in client.commits(Source(repository.url), limit=99)] == [first, second, merge]
    assert commits[0] == replace(client.resolve(Source(repository.url, second[:8])), ref="main")
    with pytest.raises(BadParameter, match="limit=0"):
        client.commits(Source(repository.url), limit=0)


def test_a_commit_must_be_on_the_branch_that_is_given_with_it(repository: Repository, client: GitClient) -> None:
    first = repository.commit(FILES)
    side = repository.commit({"z": b""}, branch="side", start=first)
    repository.commit({"x": b"2"}, merge=side)
    off = repository.commit({"y": b""}, branch="other", start=first)
    repository.tag("light", first)
    repository.tag("noted", first, annotated=True)
    repository.tag("light-off", off)
    repository.tag("noted-off", off, annotated=True)

    def resolve(commit: str, branch: str | None = "main") -> str:
        config = {"repo": repository.url, "commit": commit} | ({"branch": branch} if branch else {})
        return client.resolve(parse_source(None, None, config)).commit

    on = (first, first[:9], "light", "noted", repository.sha("refs/tags/noted"))
    assert {resolve(commit) for commit in on} == {first}
    assert resolve(side) == resolve(side[:9]) == side  # merged: it is on the branch, though not by first parents
    elsewhere = (off, off[:9], "light-off", "noted-off", repository.sha("refs/tags/noted-off"), "other")
    for commit in elsewhere:
        with pytest.raises(BadParameter, match=f"commit='{off}': is not on 'main'"):
            resolve(commit)
    assert (
        {resolve(commit, None) for commit in elsewhere} == {resolve(commit, "other") for commit in elsewhere} == {off}
    )
    assert resolve(off, "light-off") == off
    with pytest.raises(RefNotFound, match="no branch, tag or commit 'mian'"):
        resolve(first, "mian")


def test_the_checkout_of_a_commit_says_the_branch_it_was_asked_for_on(
    repository: Repository, client: GitClient
) -> None:
    first = repository.commit(FILES)
    repository.commit({"x": b"2"})
    url = repository.url
    assert client.resolve(parse_source(None, None, {"repo": url, "branch": "main", "commit": first})).ref == "main"
    assert client.resolve(parse_source(None, None, {"repo": url, "commit": first[:9]})).ref == first[:9]
