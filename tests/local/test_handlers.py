"""Serving functions, called in this process. ``test_peers.py`` compares the answers with sagemaker-inference itself."""

from __future__ import annotations

import io
import json
import sys
import textwrap
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy
import pytest

from airflow_sm_git.local.handlers import CSV, CUSTOM_ATTRIBUTES, JSON, NPY, Request, Response, Service

Serve = Callable[[str], Service]


@pytest.fixture
def serve(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Serve]:
    monkeypatch.syspath_prepend(str(tmp_path))
    names: list[str] = []

    def make(source: str) -> Service:
        names.append(f"handlers_under_test_{tmp_path.name}_{len(names)}".replace("-", "_"))
        (tmp_path / f"{names[-1]}.py").write_text(textwrap.dedent(source))
        return Service(f"{names[-1]}.py", "/model")

    yield make
    for name in names:
        sys.modules.pop(name, None)


def ask(
    service: Service, body: bytes = b"[1, 2]", content_type: str | None = JSON, accept: str | None = None
) -> Response:
    headers = {"Content-Type": content_type, "Accept": accept, CUSTOM_ATTRIBUTES: "given"}
    return service.answer(Request(body, {name: value for name, value in headers.items() if value is not None}))


ECHO = """
def model_fn(model_dir):
    return model_dir
def predict_fn(data, model):
    return data
"""


def test_the_model_reaches_predict_and_each_function_gets_what_the_one_before_gave(serve: Serve) -> None:
    service = serve(
        """
        import json
        def model_fn(model_dir): return {"dir": model_dir}
        def input_fn(data, content_type): return [data, content_type]
        def predict_fn(data, model): return [*data, model["dir"]]
        def output_fn(prediction, accept): return json.dumps([*prediction, accept]), "text/own"
        """
    )
    answer = ask(service, b"body", "text/csv", "application/x-own")
    assert (answer.status, answer.content_type) == (200, "text/own")
    assert json.loads(answer.body) == ["body", "text/csv", "/model", "application/x-own"]


@pytest.mark.parametrize(
    ("body", "content_type", "accept", "answer"),
    [
        (b"[[1, 2], [3, 4]]", JSON, None, b"[[1, 2], [3, 4]]"),
        (b"[[1, 2], [3, 4]]", JSON, "*/*", b"[[1, 2], [3, 4]]"),
        (b"[[1, 2], [3, 4]]", JSON, "text/html, text/csv", b"1,2\n3,4\n"),
        (b"1,2\n3,4", CSV, JSON, b"[[1, 2], [3, 4]]"),
    ],
)
def test_the_defaults_read_and_write_the_usual_formats(
    serve: Serve, body: bytes, content_type: str, accept: str | None, answer: bytes
) -> None:
    assert ask(serve(ECHO), body, content_type, accept).body == answer


def test_the_defaults_read_and_write_npy(serve: Serve) -> None:
    buffer = io.BytesIO()
    numpy.save(buffer, numpy.arange(3))
    answer = ask(serve(ECHO), buffer.getvalue(), NPY, NPY)
    assert answer.content_type == NPY
    assert numpy.load(io.BytesIO(answer.body)).tolist() == [0, 1, 2]


@pytest.mark.parametrize(
    ("content_type", "accept"), [("application/xml", JSON), (None, JSON), (JSON, "application/xml")]
)
def test_a_format_without_default_is_an_error_that_names_it(
    serve: Serve, content_type: str | None, accept: str
) -> None:
    answer = ask(serve(ECHO), b"[1]", content_type, accept)
    assert answer.status == 500
    assert b"is not supported by this framework" in answer.body
    assert str(content_type if accept == JSON else accept).encode() in answer.body


def test_transform_fn_does_it_all(serve: Serve) -> None:
    service = serve(
        """
        def model_fn(model_dir): return "m"
        def transform_fn(model, data, content_type, accept): return f"{model} {data} {content_type} {accept}"
        """
    )
    assert ask(service, b"\xc3\xbc", JSON).body.decode() == f"m ü {JSON} {JSON}"
    assert ask(service, b"x", "application/x").body.decode().startswith("m b'x'")


def test_transform_fn_beside_the_others_is_refused(serve: Serve) -> None:
    with pytest.raises(ValueError, match="Cannot use transform_fn implementation in conjunction"):
        serve("def model_fn(d): ...\ndef transform_fn(a, b, c, d): ...\ndef input_fn(a, b): ...")


def test_handlers_that_take_a_context_get_the_request(serve: Serve) -> None:
    service = serve(
        """
        def model_fn(model_dir, context): return context.system_properties["model_dir"]
        def input_fn(data, content_type, context):
            return context.get_request_header(0, "X-Amzn-SageMaker-Custom-Attributes")
        def predict_fn(data, model, context): return [data, model]
        def output_fn(prediction, accept, context):
            context.set_response_header(0, "X-Amzn-SageMaker-Custom-Attributes", "answered")
            context.set_response_status(201, "Created", 0)
            return prediction
        """
    )
    answer = ask(service)
    assert json.loads(answer.body) == ["given", "/model"]
    assert (answer.status, answer.custom_attributes) == (201, "answered")
    assert ask(service).custom_attributes == "answered"


def test_an_exception_is_a_500_with_its_text_and_traceback_and_the_next_request_is_served(
    serve: Serve, capsys: pytest.CaptureFixture[str]
) -> None:
    service = serve(
        """
        def model_fn(model_dir): return 0
        def input_fn(data, content_type): return int(data)
        def predict_fn(data, model): return 1 / data
        """
    )
    answer = ask(service, b"0")
    assert answer.status == 500
    assert answer.body.startswith(b"division by zero\nTraceback (most recent call last):")
    assert "ZeroDivisionError" in capsys.readouterr().out
    assert ask(service, b"2").body == b"0.5"


def test_an_error_made_for_the_client_keeps_its_status(serve: Serve) -> None:
    service = serve(
        """
        class Refused(Exception):
            status_code, message, phrase = 422, "no such word", "Unprocessable"
        def model_fn(model_dir): return 0
        def predict_fn(data, model): raise Refused
        """
    )
    answer = ask(service)
    assert answer.status == 422
    assert answer.body.startswith(b"no such word\n")


@pytest.mark.parametrize(
    ("result", "body"), [("'text'", b"text"), ("b'\\x00'", b"\0"), ("{'a': 1}", b'{\n  "a": 1\n}'), ("None", b"null")]
)
def test_whatever_output_fn_returns_is_encoded_as_multi_model_server_does(
    serve: Serve, result: str, body: bytes
) -> None:
    assert ask(serve(f"{ECHO}\ndef output_fn(prediction, accept): return {result}")).body == body


def test_what_cannot_be_encoded_is_a_503(serve: Serve) -> None:
    answer = ask(serve(f"{ECHO}\ndef output_fn(prediction, accept): return object()"))
    assert (answer.status, answer.body) == (503, b"Unsupported model output data type.")


@pytest.mark.parametrize(
    ("result", "said"),
    [
        ("b'x', 'text/plain\\r\\nX: 1'", r"content type is 'text/plain\r\nX: 1'"),
        ("b'x', 'text/\u2603'", r"content type is 'text/\u2603'"),
        ("b'x', 5", "content type is 5 (int), not a string"),
        ("1, 2, 3", "content type is 2 (int), not a string"),
        ("b'x', 'a' * 1025", "content type has 1025 characters; 1024 are allowed"),
        ("'\\ud800'", "body is no text that UTF-8 can encode"),
    ],
)
def test_a_reply_that_cannot_be_sent_is_a_500_that_says_what_was_returned(
    serve: Serve, capsys: pytest.CaptureFixture[str], result: str, said: str
) -> None:
    answer = ask(serve(f"{ECHO}\ndef output_fn(prediction, accept): return {result}"))
    assert (answer.status, answer.content_type, answer.custom_attributes) == (500, "text/plain", None)
    assert said in answer.body.decode("ascii")
    assert said in capsys.readouterr().out


@pytest.mark.parametrize(
    ("call", "said"),
    [
        ("context.set_response_header(0, 'X-Amzn-SageMaker-Custom-Attributes', 'a' * 1025)", "has 1025 characters"),
        ("context.set_response_header(0, 'X-Amzn-SageMaker-Custom-Attributes', '\xe9')", r"is '\xe9'"),
        ("context.set_response_status(99)", "the status is 99"),
        ("context.set_response_status('200')", "the status is '200'"),
    ],
)
def test_headers_and_status_of_the_context_are_checked_too(serve: Serve, call: str, said: str) -> None:
    source = f"def model_fn(d): ...\ndef transform_fn(m, d, c, a, context):\n    {call}\n    return 'x'"
    answer = ask(serve(source))
    assert answer.status == 500
    assert said in answer.body.decode("ascii")


@pytest.mark.parametrize("value", ["a = []; a.append(a)", "a = []\n    for _ in range(9999): a = [a]"])
def test_a_reply_that_json_cannot_hold_is_a_503(serve: Serve, value: str) -> None:
    answer = ask(serve(f"{ECHO}\ndef output_fn(prediction, accept):\n    {value}\n    return a"))
    assert (answer.status, answer.body) == (503, b"Unsupported model output data type.")


def test_an_error_whose_text_cannot_be_encoded_or_had_keeps_its_cause(serve: Serve) -> None:
    answer = ask(serve("def model_fn(d): ...\ndef predict_fn(d, m): raise ValueError('\\ud800')"))
    assert answer.status == 500
    assert answer.body.startswith(b"\\ud800\nTraceback")
    source = "def transform_fn(m, d, c, a, context): context.set_response_content_type(0, 5); raise ValueError('why')"
    assert ask(serve(f"def model_fn(d): ...\n{source}")).body.startswith(b"why\n")
    mute = "class Mute(Exception):\n    def __str__(self): return 1 / 0\n"
    answer = ask(serve(f"{mute}def model_fn(d): ...\ndef predict_fn(d, m): raise Mute"))
    assert answer.body.startswith(b"Mute, whose text cannot be had: ZeroDivisionError\n")


def test_a_function_of_the_wrong_arity_is_named(serve: Serve) -> None:
    answer = ask(serve("def model_fn(d): ...\ndef predict_fn(data): ..."))
    assert b"predict_fn takes 1 arguments but 2 were given." in answer.body


def test_a_missing_function_is_named_with_its_module(serve: Serve) -> None:
    with pytest.raises(NotImplementedError, match="Please provide a model_fn implementation"):
        serve("")
    assert b"Please provide a predict_fn implementation" in ask(serve("def model_fn(d): ...")).body
    with pytest.raises(NotImplementedError, match=r"'absent_module\.py'"):
        Service("absent_module.py", "/model")


def test_the_hooks_around_loading_are_called_in_order(serve: Serve) -> None:
    service = serve(
        """
        called = []
        def pre_model_fn(model_dir): called.append("before")
        def model_fn(model_dir): called.append("load")
        def model_warmup_fn(model_dir, model): called.append("after")
        def predict_fn(data, model): return called
        """
    )
    assert json.loads(ask(service).body) == ["before", "load", "after"]
