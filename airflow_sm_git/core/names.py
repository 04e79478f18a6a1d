"""SageMaker's rules for names and tags, and the way from an Airflow task to the names of what it makes.

A name is a readable prefix, then what identifies: the hash of the task instance, and an attempt or a content hash.
Only the prefix is ever cut. Rules from the SageMaker API reference: names of jobs, models, endpoint configurations
and endpoints match ``[a-zA-Z0-9](-*[a-zA-Z0-9]){0,62}``; a tag's key has at most 128 characters and its value 256, of
letters, digits, spaces and ``_.:/=+-@``; a resource has at most 50 tags.
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import accumulate

from airflow_sm_git.core.errors import BadParameter

MAX_NAME = 63
MAX_TAG_VALUE = 256
MAX_TAGS = 50
LATER_TAGS = 1  # that a resource may get when it is there: who stopped it, since when it serves, or what it was made of
TAG_PREFIX = "sm-git:"
MODEL_ETAG = "model-etag"  # tag of a model: what S3 told of its archive

_NAME = re.compile(r"[a-zA-Z0-9](-*[a-zA-Z0-9]){0,62}")
_TAG_SAFE = re.compile(r"[A-Za-z0-9 _.:/+\-@]")
_HASH_LENGTH = 12


@dataclass(frozen=True)
class TaskKey:
    """One task instance of one run, in one Airflow.

    :param namespace: tells two Airflows that share an AWS account apart.
    :param map_index: -1 when the task is not mapped.
    """

    namespace: str
    dag_id: str
    run_id: str
    task_id: str
    map_index: int = -1

    @property
    def hash(self) -> str:
        """Twelve characters (60 bits) that stand for this task instance in every name it makes."""
        return short_hash([self.namespace, self.dag_id, self.run_id, self.task_id, self.map_index])


def short_hash(value: object) -> str:
    """Twelve lower-case base-32 characters of the SHA-256 of a JSON value's canonical form."""
    digest = hashlib.sha256(canonical(value).encode()).digest()
    return base64.b32encode(digest).decode().lower()[:_HASH_LENGTH]


def canonical(value: object) -> str:
    """One text for one JSON value, whatever the order of its keys."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=True)


def job_name(key: TaskKey, attempt: int, prefix: str | None = None) -> str:
    """Name an attempt of a training job.

    :param attempt: from 1 up.
    :param prefix: the readable part; the DAG's id when None.
    """
    return _name(prefix or key.dag_id, f"{key.hash}-{attempt}")


def attempt_of(name: str, key: TaskKey) -> int | None:
    """The attempt that a job's name tells, or None if the job is not one of this task instance."""
    match = re.fullmatch(rf"(?:.*-)?{re.escape(key.hash)}-(\d+)", name)
    return int(match.group(1)) if match else None


def endpoint_name(key: TaskKey, prefix: str | None = None) -> str:
    """Name the endpoint that belongs to one run of one task."""
    return _name(prefix or key.dag_id, key.hash)


def content_name(base: str, content: object) -> str:
    """Name an immutable resource (a model, an endpoint configuration) after what it contains.

    :param base: the readable and owning part, such as the endpoint's name; its end, which identifies, is kept.
    :param content: the request that would create it, without its name and tags.
    """
    return f"{content_base(base)}-{short_hash(content)}"


def content_base(base: str) -> str:
    """What all content names of a base begin with, and no other base's do.

    A base that is too long keeps its end; where it cannot stay as it is, a hash of it goes before.
    """
    room = MAX_NAME - _HASH_LENGTH - 1
    if len(base) <= room and _NAME.fullmatch(base):
        return base
    mark = short_hash(base)
    return f"{mark}-{_readable(base)[len(mark) + 1 - room :].strip('-')}"


def is_name(value: object) -> bool:
    """Whether SageMaker would take a value as a name."""
    return isinstance(value, str) and len(value) <= MAX_NAME and bool(_NAME.fullmatch(value))


def check_name(parameter: str, value: str) -> str:
    """Check a name that a user gives.

    :raises BadParameter: SageMaker would not take it.
    """
    if not is_name(value):
        raise BadParameter(
            parameter, value, "is not a SageMaker name", "Use 1 to 63 letters, digits and inner hyphens, no other sign."
        )
    return value


def _name(prefix: str, suffix: str) -> str:
    return f"{_readable(prefix)[: MAX_NAME - len(suffix) - 1].strip('-')}-{suffix}"


def _readable(text: str) -> str:
    return re.sub(r"[^a-zA-Z0-9]+", "-", text).strip("-") or "sm-git"


def tag_value(text: str) -> str:
    """Write any text as a tag's value: other characters as ``=HH`` of their UTF-8, too long ones cut with a hash."""
    written = [c if _TAG_SAFE.match(c) else "".join(f"={b:02X}" for b in c.encode()) for c in text]
    value = "".join(written)
    if len(value) <= MAX_TAG_VALUE:
        return value
    mark = f"...{short_hash(text)}"
    lengths = accumulate(len(c) for c in written)
    return "".join(c for c, end in zip(written, lengths, strict=True) if end <= MAX_TAG_VALUE - len(mark)) + mark


def read_tag_value(value: str) -> str:
    """The text that `tag_value` wrote, except what it cut off."""
    raw = re.sub(rb"=([0-9A-F]{2})", lambda m: bytes([int(m.group(1), 16)]), value.encode())
    return raw.decode(errors="replace")


def make_tags(values: Mapping[str, str | None], extra: Mapping[str, str] | None = None) -> list[dict[str, str]]:
    """Build a ``Tags`` list.

    :param values: ours, by key without the prefix; None leaves one out.
    :param extra: the user's own, unchanged.
    :return: the list as the API takes it, in a fixed order.
    :raises BadParameter: a key of the user's is taken, or there are too many.
    """
    ours = {TAG_PREFIX + key: tag_value(value) for key, value in values.items() if value is not None}
    for key in extra or {}:
        if key.startswith((TAG_PREFIX, "aws:")):
            raise BadParameter(
                "tags", key, f"keys that start with {TAG_PREFIX!r} or 'aws:' are taken", "Rename the key."
            )
    room = MAX_TAGS - LATER_TAGS - len(ours)
    if extra and len(extra) > room:
        remedy = f"Give {room} or fewer."
        raise BadParameter("tags", f"{len(extra)} tags", "are more than a resource takes beside our own", remedy)
    return [{"Key": key, "Value": value} for key, value in {**(extra or {}), **ours}.items()]


def read_tags(tags: list[dict[str, str]]) -> dict[str, str]:
    """Our own tags of a resource, by key without the prefix, decoded."""
    return {
        tag["Key"].removeprefix(TAG_PREFIX): read_tag_value(tag["Value"])
        for tag in tags
        if tag["Key"].startswith(TAG_PREFIX)
    }
