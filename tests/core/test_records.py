from __future__ import annotations

import json
from typing import Any, get_type_hints

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_sm_git.core import records
from airflow_sm_git.core.errors import BadParameter
from airflow_sm_git.core.records import Checkout, Endpoint, Package, Prediction, Teardown, TrainingJob, load

KINDS = (Checkout, Package, TrainingJob, Endpoint, Prediction, Teardown)
CHECKOUT: Checkout = {
    "schema": 1,
    "repo": "https://example.com/it.git",
    "ref": "main",
    "commit": "a" * 40,
    "tree": "b" * 40,
    "committed_at": "2026-11-01T00:00:00Z",
    "author": "Zoë",
    "subject": 'Say "hello", don\'t shout',
    "web_url": None,
}


def example(kind: Any) -> dict[str, Any]:
    """A record of a kind with something in every key."""
    return {"schema": 1, **{key: f"<{key}>" for key in kind.__annotations__ if key != "schema"}}


@pytest.mark.parametrize("kind", KINDS)
def test_a_record_is_read_from_a_dict_its_json_and_its_repr(kind: Any) -> None:
    record = example(kind)
    for value in (record, json.dumps(record), json.dumps(record, indent=2), repr(record)):
        assert load(kind, "p", value) == record


def test_text_with_quotes_and_none_survives_a_template_without_native_rendering() -> None:
    assert load(Checkout, "checkout", str(CHECKOUT)) == CHECKOUT


@pytest.mark.parametrize("kind", KINDS)
def test_every_missing_key_is_named(kind: Any) -> None:
    for key in kind.__annotations__.keys() - {"schema"}:
        record = example(kind)
        del record[key]
        with pytest.raises(BadParameter, match=rf"lacks {key}\b") as caught:
            load(kind, "the_parameter", record)
        assert caught.value.parameter == "the_parameter"
        assert kind.__name__ in caught.value.remedy


def test_a_key_that_a_newer_version_adds_is_kept() -> None:
    assert load(Checkout, "checkout", {**CHECKOUT, "more": 1})["more"] == 1  # type: ignore[typeddict-item]


@pytest.mark.parametrize("schema", [None, 0, 2, "1"])
def test_another_schema_is_refused_by_number(schema: object) -> None:
    with pytest.raises(BadParameter, match=f"has schema {schema!r}, this version reads schema 1"):
        load(Checkout, "checkout", {**CHECKOUT, "schema": schema})


@pytest.mark.parametrize(
    "value", [None, 1, [], "null", "[1]", "'text'", "", "{{ ti }}", "{[]: 1}", "{", "__import__('os')"]
)
def test_what_is_no_record_is_refused_with_parameter_and_remedy(value: object) -> None:
    with pytest.raises(BadParameter) as caught:
        load(Checkout, "checkout", value)
    assert str(caught.value).startswith("checkout=")
    assert caught.value.remedy


@given(st.text() | st.recursive(st.none() | st.text(), st.lists).map(repr))
def test_no_text_gives_any_other_error(text: str) -> None:
    with pytest.raises(BadParameter):
        load(Checkout, "checkout", text)


def test_every_kind_has_a_schema_and_nothing_that_json_cannot_hold() -> None:
    allowed = {int, str, bool, Any, str | None, int | None, dict[str, float], list[str]}
    defined = {v for v in vars(records).values() if isinstance(v, type) and issubclass(v, dict)}
    assert defined == set(KINDS)
    for kind in KINDS:
        hints = get_type_hints(kind)
        assert hints["schema"] is int
        assert set(hints.values()) <= allowed
