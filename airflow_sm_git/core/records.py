"""What flows between tasks: small JSON dicts, safe in XCom.

Times are ISO 8601 in UTC, sizes are bytes, durations seconds. No record holds a local path: two tasks of one run may
be on two machines. `load` accepts a record as a dict or as its JSON text, since Jinja yields text.
"""

from __future__ import annotations

import ast
import json
from contextlib import suppress
from typing import Any, Literal, TypedDict, TypeVar, cast

from airflow_sm_git.core.errors import BadParameter

SCHEMA: Literal[1] = 1


class Checkout(TypedDict):
    """One commit of one repository; everything after it speaks of this commit only."""

    schema: int
    repo: str
    ref: str
    commit: str
    tree: str
    committed_at: str
    author: str
    subject: str
    web_url: str | None


class Package(TypedDict):
    """A source archive in S3. `digest` is the SHA-256 of the uncompressed tar, `size` that of the object.

    The manifest lists its files with their hashes (`airflow_sm_git.core.manifest`).
    """

    schema: int
    s3_uri: str
    digest: str
    commit: str
    tree: str
    repo: str
    entry_point: str
    source_dir: str | None
    size: int
    file_count: int
    reused: bool
    manifest_uri: str


class TrainingJob(TypedDict):
    """A training job. `attached` tells that an earlier try of the task had submitted it."""

    schema: int
    job_name: str
    job_arn: str
    status: str
    model_data: str | None
    commit: str
    digest: str
    metrics: dict[str, float]
    billable_seconds: int | None
    started_at: str | None
    ended_at: str | None
    region: str
    attached: bool


class Endpoint(TypedDict):
    """A live endpoint. `owned`: it belongs to this run alone, has a lease, and teardown removes it."""

    schema: int
    endpoint_name: str
    endpoint_arn: str
    endpoint_config_name: str
    model_name: str
    commit: str
    digest: str
    region: str
    owned: bool
    lease_until: str | None


class Prediction(TypedDict):
    """An endpoint's answer: decoded in `body`, or, when large, as an object at `s3_uri`."""

    schema: int
    endpoint_name: str
    variant: str
    content_type: str
    body: Any
    s3_uri: str | None


class Teardown(TypedDict):
    """What a teardown deleted, or kept."""

    schema: int
    policy: str
    deleted: list[str]
    kept: list[str]
    lease_until: str | None
    remove_command: str | None


Record = TypeVar("Record", Checkout, Package, TrainingJob, Endpoint, Prediction, Teardown)


def load(kind: type[Record], parameter: str, value: object) -> Record:
    """Check that a parameter's value is a record of a kind.

    :param kind: the record's class, such as `Checkout`.
    :param parameter: the name of the parameter, for the error.
    :param value: a dict, or its text: JSON, or the Python literal that a Jinja template renders.
    :return: the record, keys unknown to this version included.
    :raises BadParameter: it is something else, lacks keys, or has another schema version.
    """
    record = _parse(parameter, value) if isinstance(value, str) else value
    if not isinstance(record, dict):
        raise BadParameter(parameter, value, f"is not a {kind.__name__} record", _remedy(kind))
    if record.get("schema") != SCHEMA:
        problem = f"has schema {record.get('schema')!r}, this version reads schema {SCHEMA}"
        raise BadParameter(parameter, value, problem, _remedy(kind))
    missing = sorted(kind.__annotations__.keys() - record.keys())
    if missing:
        raise BadParameter(parameter, value, f"lacks {', '.join(missing)}", _remedy(kind))
    return cast("Record", record)


def _parse(parameter: str, text: str) -> object:
    with suppress(ValueError):
        return json.loads(text)
    try:  # a template without native rendering gives Python's repr instead
        return ast.literal_eval(text)
    except (ValueError, TypeError, SyntaxError) as error:
        raise BadParameter(parameter, text, "is neither a record nor its JSON", "Pass the task's output.") from error


def _remedy(kind: type) -> str:
    return f"Pass the output of the task that makes a {kind.__name__}, or its JSON."
