from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_sm_git.core.requests import deep_merge, pruned

values = st.recursive(
    st.none() | st.booleans() | st.integers(0, 2) | st.sampled_from(["", "x"]) | st.just([]),
    lambda each: st.dictionaries(st.sampled_from("abc"), each),
    max_leaves=8,
)
requests = st.dictionaries(st.sampled_from("abc"), values)


@pytest.mark.parametrize(
    ("request_", "expected"),
    [
        ({"a": None, "b": 1}, {"b": 1}),
        ({"a": {}, "b": []}, {}),
        ({"a": {"b": {"c": None}}}, {}),
        ({"a": {"b": {"c": None}, "d": 0}}, {"a": {"d": 0}}),
        ({"a": "", "b": 0, "c": False}, {"a": "", "b": 0, "c": False}),
        ({"a": [{"b": None}]}, {"a": [{"b": None}]}),
    ],
)
def test_only_what_says_nothing_is_left_out(request_: dict[str, Any], expected: dict[str, Any]) -> None:
    assert pruned(request_) == expected


@given(requests)
def test_pruning_again_changes_nothing_and_leaves_nothing_empty(request_: dict[str, Any]) -> None:
    once = pruned(request_)
    assert pruned(once) == once
    assert all(value is not None and value != {} and value != [] for value in once.values())


@pytest.mark.parametrize(
    ("request_", "overrides", "expected"),
    [
        ({"a": 1}, {}, {"a": 1}),
        ({"a": 1}, {"a": 2, "b": 3}, {"a": 2, "b": 3}),
        ({"a": {"x": 1, "y": 2}}, {"a": {"y": 3}}, {"a": {"x": 1, "y": 3}}),
        ({"a": {"x": 1, "y": 2}}, {"a": {"y": None}}, {"a": {"x": 1}}),
        ({"a": {"x": 1}}, {"a": None}, {}),
        ({"a": [1, 2]}, {"a": [3]}, {"a": [3]}),
        ({"a": {"x": 1}}, {"a": 5}, {"a": 5}),
        ({"a": 5}, {"a": {"x": 1}}, {"a": {"x": 1}}),
        ({}, {"a": None}, {}),
    ],
)
def test_overrides_lie_over_a_request(
    request_: dict[str, Any], overrides: dict[str, Any], expected: dict[str, Any]
) -> None:
    assert deep_merge(request_, overrides) == expected


@given(requests, requests)
def test_merging_changes_neither_side_and_merging_again_changes_nothing(
    request_: dict[str, Any], overrides: dict[str, Any]
) -> None:
    before = repr((request_, overrides))
    merged = deep_merge(request_, overrides)
    assert repr((request_, overrides)) == before
    assert deep_merge(merged, overrides) == merged


def test_a_removal_that_has_nothing_to_remove_sends_no_null() -> None:
    assert deep_merge({}, {"a": {"b": None, "c": {"d": None}}, "e": 1}) == {"a": {"c": {}}, "e": 1}
