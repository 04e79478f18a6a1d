"""Payloads in, answers out: what InvokeEndpoint's bytes mean.

An answer must fit into XCom, so it is decoded to JSON values: text for text, parsed JSON for JSON, rows for CSV, and
base64 text for anything binary.
"""

from __future__ import annotations

import base64
import csv
import io
import json
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from airflow_sm_git.core.errors import BadParameter, PredictionError

JSON = "application/json"
JSON_LINES = "application/jsonlines"
CSV = "text/csv"
MAX_BODY = 6 * 1024 * 1024  # InvokeEndpoint takes and gives at most 6 MB (SageMaker API reference, InvokeEndpoint)


def encode(data: Any, content_type: str) -> bytes:
    """Write a payload.

    :param data: bytes and text are sent as they are; anything else is written in the content type's format.
    :param content_type: application/json, application/jsonlines, text/csv, or any other for bytes and text.
    :raises BadParameter: the data cannot be written so, or is too large.
    """
    body = _encode(data, content_type)
    if len(body) > MAX_BODY:
        raise BadParameter("data", f"{len(body)} bytes", f"is more than the {MAX_BODY} bytes that InvokeEndpoint takes")
    return body


def _encode(data: Any, content_type: str) -> bytes:
    if isinstance(data, bytes):
        return data
    if isinstance(data, str):
        return data.encode()
    writer = _WRITERS.get(_essence(content_type))
    if writer is None:
        known = ", ".join(_WRITERS)
        raise BadParameter(
            "content_type",
            content_type,
            f"cannot be written from a {type(data).__name__}",
            f"Give text or bytes, or use {known}.",
        )
    try:
        return writer(data).encode()
    except (TypeError, ValueError, csv.Error) as error:
        raise BadParameter("data", data, f"cannot be written as {content_type}: {error}") from error


def decode(body: bytes, content_type: str) -> Any:
    """Read an answer into JSON values.

    :raises PredictionError: the body is not what its content type says.
    """
    kind = _essence(content_type)
    try:
        if kind == JSON:
            return json.loads(body)
        if kind == JSON_LINES:
            return [json.loads(line) for line in body.decode().split("\n") if line.strip()]
        if kind == CSV:
            return list(csv.reader(io.StringIO(body.decode(), newline="")))
        if kind.startswith("text/"):
            return body.decode()
    except (ValueError, csv.Error) as error:
        raise PredictionError(
            f"The endpoint's answer is not the {content_type} that it says it is: {error}.",
            "Make output_fn return what its content type says.",
        ) from error
    return base64.b64encode(body).decode()


def _essence(content_type: str) -> str:
    return content_type.partition(";")[0].strip().lower()


def _rows(data: Any) -> list[Any]:
    if not isinstance(data, Iterable) or isinstance(data, Mapping):
        raise TypeError(f"a {type(data).__name__} is no list of rows")
    return list(data)


def _json_lines(data: Any) -> str:
    return "".join(json.dumps(row) + "\n" for row in _rows(data))


def _csv(data: Any) -> str:
    rows = _rows(data)
    rows = rows if all(isinstance(row, list | tuple) for row in rows) else [rows]
    nested = next((cell for row in rows for cell in row if isinstance(cell, list | tuple | Mapping)), None)
    if nested is not None:
        raise TypeError(f"a {type(nested).__name__} does not fit into a field")
    out = io.StringIO()
    csv.writer(out, lineterminator="\n").writerows(rows)
    return out.getvalue()


_WRITERS: dict[str, Callable[[Any], str]] = {JSON: json.dumps, JSON_LINES: _json_lines, CSV: _csv}
