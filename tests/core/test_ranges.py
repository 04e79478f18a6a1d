"""Ranges of commits, as users write them."""

from __future__ import annotations

import pytest

from airflow_sm_git.core.errors import BadParameter
from airflow_sm_git.core.ranges import CommitRange, parse_range


@pytest.mark.parametrize(
    ("text", "since", "ref"),
    [
        ("v1..main", "v1", "main"),
        ("v1.0..v1.1", "v1.0", "v1.1"),
        ("abc1234..refs/heads/a/b", "abc1234", "refs/heads/a/b"),
        ("v1..", "v1", None),
        ("main", None, "main"),
    ],
)
def test_a_range_has_a_start_that_does_not_belong_to_it_and_an_end_that_does(
    text: str, since: str | None, ref: str | None
) -> None:
    assert parse_range(text) == CommitRange(since, ref)


@pytest.mark.parametrize(
    ("text", "remedy"),
    [
        ("v1...main", "Write v1..main"),
        ("...", "Write A..B"),
        ("^v1", "Write 'A..B'"),
        ("^v1 main", "Write 'A..B'"),
        ("..main", "Write 'A..main'"),
        ("..", "Write 'A..B'"),
        ("", "Write a branch"),
        ("main~3..main", "Write a branch"),
        ("v1..^main", "Write a branch"),
        ("v1..main..x", "Write a branch"),
        ("--all..main", "Write a branch"),
        ("v1....main", "Write v1..main"),
        (7, "two refs"),
    ],
)
def test_what_else_git_takes_for_a_range_is_refused_with_the_remedy(text: str, remedy: str) -> None:
    with pytest.raises(BadParameter) as error:
        parse_range(text)
    assert remedy in str(error.value) and "commits=" in str(error.value)
