from __future__ import annotations

import re
from dataclasses import replace
from typing import Any

import botocore.session
import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_sm_git.core.errors import BadParameter
from airflow_sm_git.core.names import (
    MAX_NAME,
    MAX_TAG_VALUE,
    TAG_PREFIX,
    TaskKey,
    attempt_of,
    check_name,
    content_base,
    content_name,
    endpoint_name,
    job_name,
    make_tags,
    read_tag_value,
    read_tags,
    short_hash,
    tag_value,
)

KEY = TaskKey("default", "my_dag", "scheduled__2026-11-01T00:00:00+00:00", "train")
MODEL = botocore.session.Session().get_service_model("sagemaker")
NAMES = ("TrainingJobName", "EndpointName", "EndpointConfigName", "ModelName")
# What Airflow lets an id be made of, and what a user may write as a prefix.
# Hypothesis seldom makes long texts by itself, and the cuts begin at about forty characters.
characters = st.characters(exclude_categories=["Cs"])
texts = st.builds(lambda text, times: text * times, st.text(characters, max_size=9), st.sampled_from([1, 9, 40]))
ids = st.builds(
    lambda text, times: text * times, st.text("aZ9_.-é漢", min_size=1, max_size=9), st.sampled_from([1, 9, 25])
)
keys = st.builds(TaskKey, ids, ids, texts, ids, st.integers(-1, 5000))
valid_names = st.builds(
    lambda first, text, times: f"{first}{(text * times)[:61]}z",
    st.sampled_from("a9"),
    st.text("aZ9-", max_size=12),
    st.sampled_from([1, 5, 30]),
)
json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=9),
    lambda each: st.dictionaries(st.text(max_size=9), each, max_size=3) | st.lists(each, max_size=3),
    max_leaves=5,
)


def assert_valid(name: str) -> None:
    for shape in NAMES:
        rule = MODEL.shape_for(shape).metadata
        assert re.fullmatch(rule["pattern"], name), name
        assert 1 <= len(name) <= rule["max"]


@given(keys, st.integers(1, 10**6), st.none() | texts)
def test_a_job_name_is_valid_and_keeps_hash_and_attempt(key: TaskKey, attempt: int, prefix: str | None) -> None:
    name = job_name(key, attempt, prefix)
    assert_valid(name)
    assert name.endswith(f"-{key.hash}-{attempt}")


@given(keys, st.integers(1, 10**6), st.none() | texts)
def test_the_attempt_is_read_back_from_a_job_name(key: TaskKey, attempt: int, prefix: str | None) -> None:
    name = job_name(key, attempt, prefix)
    assert attempt_of(name, key) == attempt
    assert attempt_of(name, replace(key, map_index=key.map_index + 1)) is None


@pytest.mark.parametrize("name", ["x-HASH", "x-HASH-", "x-HASH-1a", "x-HASH-1-2", "xHASH-1", "x-HASHa-1", "HASH"])
def test_a_name_that_only_looks_alike_has_no_attempt(name: str) -> None:
    assert attempt_of(name.replace("HASH", KEY.hash), KEY) is None


def test_a_job_whose_name_is_only_hash_and_attempt_counts_as_an_attempt() -> None:
    assert attempt_of(f"{KEY.hash}-3", KEY) == 3


@given(keys, st.none() | texts)
def test_an_endpoint_name_is_valid_and_keeps_the_hash(key: TaskKey, prefix: str | None) -> None:
    name = endpoint_name(key, prefix)
    assert_valid(name)
    assert name.endswith(f"-{key.hash}")


@given(keys, st.none() | texts, json_values)
def test_what_belongs_to_a_run_carries_its_hash_in_the_content_name_too(
    key: TaskKey, prefix: str | None, content: Any
) -> None:
    name = content_name(endpoint_name(key, prefix), content)
    assert_valid(name)
    assert key.hash in name
    assert name.endswith(f"-{short_hash(content)}")


@given(valid_names, json_values)
def test_a_content_name_is_the_base_and_a_hash(base: str, content: Any) -> None:
    name = content_name(base, content)
    assert_valid(name)
    assert name == f"{content_base(base)}-{short_hash(content)}"


@given(valid_names, valid_names)
def test_two_endpoints_never_share_a_content_name(one: str, other: str) -> None:
    assert (content_name(one, {}) == content_name(other, {})) == (one == other)


@pytest.mark.parametrize(("one", "other"), [("a--b", "a-b"), ("x" + "a" * 60, "y" + "a" * 60), ("A" * 51, "A" * 52)])
def test_endpoints_whose_names_differ_only_where_they_are_rewritten_share_no_content_name(one: str, other: str) -> None:
    assert content_name(one, {}) != content_name(other, {})


def test_a_short_base_stays_readable() -> None:
    assert content_base("shop-recommender") == "shop-recommender"
    assert job_name(KEY, 2) == f"my-dag-{KEY.hash}-2"
    assert job_name(KEY, 2, "nightly") == f"nightly-{KEY.hash}-2"
    assert endpoint_name(KEY, "漢字") == f"sm-git-{KEY.hash}"


def test_every_part_of_the_key_changes_the_hash() -> None:
    others = [replace(KEY, **{name: "other"}) for name in ("namespace", "dag_id", "run_id", "task_id")]
    hashes = {key.hash for key in [KEY, *others, replace(KEY, map_index=0)]}
    assert len(hashes) == 6
    # Parts cannot run into each other.
    assert replace(KEY, dag_id="a", run_id="bc").hash != replace(KEY, dag_id="ab", run_id="c").hash


def test_the_hash_is_the_same_in_every_release() -> None:
    # A literal: a job that one release submitted must be found by the next.
    assert KEY.hash == "ka6on3vgjaql"


@given(st.dictionaries(st.text(max_size=9), json_values, max_size=4))
def test_a_hash_does_not_depend_on_the_order_of_keys(value: dict[str, Any]) -> None:
    assert short_hash(dict(reversed(value.items()))) == short_hash(value)


@given(st.text("aZ9-", max_size=80))
def test_exactly_what_sagemaker_takes_as_a_name_passes(name: str) -> None:
    takes = 1 <= len(name) <= MAX_NAME and not name.startswith("-") and not name.endswith("-")
    if takes:
        assert check_name("endpoint_name", name) == name
    else:
        with pytest.raises(BadParameter, match=r"^endpoint_name="):
            check_name("endpoint_name", name)


@pytest.mark.parametrize(
    "name", ["", "a" * 64, "a" + "-" * 62 + "b", "-a", "a-", "a_b", "a.b", "a b", "a\n", "é", None, 7]
)
def test_other_names_are_refused_with_a_remedy(name: Any) -> None:
    with pytest.raises(BadParameter) as caught:
        check_name("endpoint_name", name)
    assert "63" in caught.value.remedy


@given(texts)
def test_a_tag_value_is_valid_and_reversible(text: str) -> None:
    value = tag_value(text)
    assert re.fullmatch(r"[A-Za-z0-9 _.:/=+\-@]*", value)
    assert len(value) <= MAX_TAG_VALUE
    if "..." not in value[-15:]:
        assert read_tag_value(value) == text


@given(st.text(characters | st.sampled_from("漢é="), min_size=1, max_size=12).map(lambda text: (text * 300)[:400]))
def test_a_long_tag_value_is_cut_between_characters_and_tells_two_texts_apart(text: str) -> None:
    value = tag_value(text)
    assert len(value) <= MAX_TAG_VALUE
    assert value != tag_value(text + "x")
    kept, _, digest = read_tag_value(value).rpartition("...")
    assert text.startswith(kept)
    assert digest == short_hash(text)
    assert len(value) > MAX_TAG_VALUE - 12  # no more is cut than must be: one character takes at most 12 signs
    # What was read back writes the same value, so that a resource can be compared with its owner.
    assert tag_value(read_tag_value(value)) == value


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("https://example.com/a.git", "https://example.com/a.git"),
        ("manual__2026-11-01T00:00:00+00:00", "manual__2026-11-01T00:00:00+00:00"),
        ("a=b", "a=3Db"),
        ("=41", "=3D41"),
        ("Zoë", "Zo=C3=AB"),
        ("a\tb~c", "a=09b=7Ec"),
        ("", ""),
    ],
)
def test_a_tag_value_is_written_so(text: str, value: str) -> None:
    assert tag_value(text) == value
    assert read_tag_value(value) == text


def test_a_value_of_exactly_the_longest_length_is_not_cut() -> None:
    assert tag_value("a" * 256) == "a" * 256
    assert tag_value("a" * 257) == "a" * 241 + "..." + short_hash("a" * 257)


def test_tags_carry_the_users_own_unchanged_and_ours_under_a_prefix() -> None:
    tags = make_tags({"dag": "d=1", "run": None}, {"team": "é=1"})
    assert tags == [{"Key": "team", "Value": "é=1"}, {"Key": f"{TAG_PREFIX}dag", "Value": "d=3D1"}]
    assert read_tags(tags) == {"dag": "d=1"}


def test_so_many_tags_of_the_users_that_ours_have_no_room_are_refused() -> None:
    ours = {f"key{number}": "value" for number in range(11)}
    extra = {f"own{number}": "value" for number in range(38)}
    assert len(make_tags(ours, extra)) == 49, "and room for one that comes later"
    with pytest.raises(BadParameter, match=r"tags='39 tags': .*Give 38 or fewer\."):
        make_tags(ours, {**extra, "one": "more"})


@pytest.mark.parametrize("key", ["sm-git:dag", "sm-git:", "aws:anything"])
def test_a_users_tag_cannot_take_a_reserved_key(key: str) -> None:
    with pytest.raises(BadParameter, match=f"tags='{key}'"):
        make_tags({}, {key: "x"})


@given(st.dictionaries(st.text("abc-", min_size=1), st.text(characters, max_size=20)))
def test_our_tags_are_read_back(values: dict[str, str]) -> None:
    assert read_tags(make_tags(values)) == values
