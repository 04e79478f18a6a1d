from __future__ import annotations

import base64
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_sm_git.core.errors import BadParameter, PredictionError
from airflow_sm_git.core.prediction import CSV, JSON, JSON_LINES, MAX_BODY, decode, encode

characters = st.characters(exclude_categories=["Cs"])
json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(characters, max_size=9),
    lambda each: st.dictionaries(st.text(characters, max_size=9), each, max_size=3) | st.lists(each, max_size=3),
    max_leaves=6,
)
# Without the carriage return: Python's csv writer quotes it only if it ends its own lines with it.
cells = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\r"), max_size=9)


# Text is sent as it is, so only what is not text is written as JSON.
@given(json_values.filter(lambda value: not isinstance(value, str)))
def test_json_goes_there_and_back(value: Any) -> None:
    assert decode(encode(value, JSON), JSON) == value


@given(st.lists(json_values, max_size=5))
def test_json_lines_go_there_and_back(rows: list[Any]) -> None:
    assert decode(encode(rows, JSON_LINES), JSON_LINES) == rows


@given(st.lists(st.lists(cells, min_size=1, max_size=4), min_size=1, max_size=4))
def test_rows_go_through_csv_and_back(rows: list[list[str]]) -> None:
    assert decode(encode(rows, CSV), CSV) == rows


@given(st.binary(max_size=50))
def test_bytes_are_sent_as_they_are_and_come_back_as_base64(body: bytes) -> None:
    assert encode(body, "application/x-npy") == body
    assert base64.b64decode(decode(body, "application/x-npy")) == body


@given(st.binary(max_size=50), st.sampled_from([JSON, JSON_LINES, CSV, "text/plain", "image/png", ""]))
def test_whatever_an_endpoint_answers_is_either_decoded_to_json_or_a_prediction_error(body: bytes, kind: str) -> None:
    try:
        value = decode(body, kind)
    except PredictionError as error:
        assert kind in str(error)
        assert error.remedy
    else:
        json.dumps(value)


@pytest.mark.parametrize(
    ("data", "content_type", "body"),
    [
        ({"seed": 111}, JSON, b'{"seed": 111}'),
        ({"seed": 111}, "application/json; charset=utf-8", b'{"seed": 111}'),
        ({"seed": 111}, "Application/JSON", b'{"seed": 111}'),
        ('{"seed": 111}', JSON, b'{"seed": 111}'),
        ("é", "text/plain", "é".encode()),
        ([{"a": 1}, 2], JSON_LINES, b'{"a": 1}\n2\n'),
        ([[1, "a,b"], [2.5, 'say "x"']], CSV, b'1,"a,b"\n2.5,"say ""x"""\n'),
        ([1, 2, 3], CSV, b"1,2,3\n"),
        (((1, 2), (3, 4)), CSV, b"1,2\n3,4\n"),
        ([], CSV, b""),
    ],
)
def test_a_payload_is_written_so(data: Any, content_type: str, body: bytes) -> None:
    assert encode(data, content_type) == body


@pytest.mark.parametrize(
    ("body", "content_type", "value"),
    [
        (b'{"a": [1, null]}', JSON, {"a": [1, None]}),
        (b'{"a": 1}', "application/json;charset=utf-8", {"a": 1}),
        (b'1\n\n{"a": 2}\n', JSON_LINES, [1, {"a": 2}]),
        (b"1\r\n2\r\n", JSON_LINES, [1, 2]),
        ('"a\u2028b"\n'.encode(), JSON_LINES, ["a\u2028b"]),
        (b"a,b\r\n1,2\r\n", CSV, [["a", "b"], ["1", "2"]]),
        (b"a\rb", CSV, [["a"], ["b"]]),
        (b'"a\nb",c\n', CSV, [["a\nb", "c"]]),
        ("é".encode(), "text/plain", "é"),
        (b"\x93NUMPY", "application/x-npy", base64.b64encode(b"\x93NUMPY").decode()),
        (b"", "", ""),
    ],
)
def test_an_answer_is_read_so(body: bytes, content_type: str, value: Any) -> None:
    assert decode(body, content_type) == value


@pytest.mark.parametrize(
    ("body", "content_type"),
    [(b"{", JSON), (b"1\n{", JSON_LINES), (b"\xff", JSON), (b"\xff", CSV), (b"\xff", "text/plain")],
)
def test_an_answer_that_is_not_what_it_says_is_an_error_that_names_the_handler(body: bytes, content_type: str) -> None:
    with pytest.raises(PredictionError, match=f"not the {content_type} that it says.*output_fn"):
        decode(body, content_type)


def test_a_csv_field_beyond_what_the_csv_module_reads_is_an_error_and_no_crash() -> None:
    with pytest.raises(PredictionError, match="field larger than field limit"):
        decode(b"x" * 200_000, CSV)


@pytest.mark.parametrize(
    ("data", "content_type"),
    [
        ({1, 2}, JSON),
        (object(), JSON_LINES),
        (5, JSON_LINES),
        (5, CSV),
        ({"a": 1}, CSV),
        ({"a": 1}, JSON_LINES),
        ([{"a": 1}], CSV),
        ([[[1]]], CSV),
    ],
)
def test_data_that_has_no_form_in_the_content_type_is_refused(data: Any, content_type: str) -> None:
    with pytest.raises(BadParameter, match=f"^data=.*cannot be written as {content_type}"):
        encode(data, content_type)


def test_an_unknown_content_type_takes_text_and_bytes_only() -> None:
    with pytest.raises(BadParameter, match=r"content_type='application/x-npy'.*dict.*Give text or bytes") as caught:
        encode({"a": 1}, "application/x-npy")
    assert JSON in caught.value.remedy


def test_a_payload_above_the_limit_is_refused_and_one_at_it_is_not() -> None:
    assert len(encode(b"x" * MAX_BODY, "application/octet-stream")) == MAX_BODY
    with pytest.raises(BadParameter, match=rf"data='{MAX_BODY + 1} bytes'"):
        encode(b"x" * (MAX_BODY + 1), "application/octet-stream")
