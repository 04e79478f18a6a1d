"""Checks a request against botocore's model of SageMaker, as the service does: required members, types, lengths,
ranges, patterns and enums, and the service's own words for what is wrong.

botocore's client-side check knows required members, types and minima only, so a client lets through what this refuses.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cache
from typing import Any

from botocore.loaders import Loader

from airflow_sm_git.local.errors_sagemaker import refuse

# \p{Z} of Java's patterns, spelled out; Python has no such class.
_SEPARATORS = "\u0020\u00a0\u1680\u2000-\u200a\u2028\u2029\u202f\u205f\u3000"
_NUMBERS = {"integer", "long", "float", "double"}
_JAVA_NAMES = {
    "string": "a String",
    "integer": "an Integer",
    "long": "a Long",
    "float": "a Float",
    "double": "a Double",
    "boolean": "a Boolean",
    "timestamp": "a Date",
}


@dataclass(frozen=True)
class Shape:
    """One shape of the service model, without its documentation."""

    type: str
    required: tuple[str, ...] = ()
    members: Mapping[str, str] = field(default_factory=dict)
    element: str = ""
    key: str = ""
    minimum: float | None = None
    maximum: float | None = None
    pattern: str = ""
    enum: tuple[str, ...] = ()


class ServiceModel:
    """The shapes that a set of actions needs.

    :param service: botocore's name, for instance ``sagemaker``.
    :param actions: names of the actions to keep; the rest of the model is dropped from memory.
    """

    def __init__(self, service: str, actions: tuple[str, ...]) -> None:
        raw = Loader().load_service_model(service, "service-2")
        self._shapes: dict[str, Shape] = {}
        self._inputs = {name: raw["operations"][name]["input"]["shape"] for name in actions}
        for name in self._inputs.values():
            self._keep(name, raw["shapes"])

    def _keep(self, name: str, raw: Mapping[str, Any]) -> None:
        if name in self._shapes:
            return
        shape = self._shapes[name] = shape_of(raw[name])
        for child in (*shape.members.values(), shape.element, shape.key):
            if child:
                self._keep(child, raw)

    @property
    def actions(self) -> tuple[str, ...]:
        """Names of the actions that :meth:`validate` knows."""
        return tuple(self._inputs)

    def patterns(self) -> Iterator[str]:
        """Every pattern that a request may be held against, in Java's syntax."""
        return (shape.pattern for shape in self._shapes.values() if shape.pattern)

    def enum(self, shape: str) -> tuple[str, ...]:
        """The values of the enum ``shape``."""
        return self._shapes[shape].enum

    def validate(self, action: str, body: Mapping[str, Any]) -> dict[str, Any]:
        """The request without nulls and unknown members, which AWS's JSON services ignore.

        :param action: for instance ``CreateTrainingJob``.
        :param body: the decoded request.
        :raises ApiError: ``SerializationException`` for a wrong type, else ``ValidationException`` that names every
            member at fault, as SageMaker does.
        """
        problems: list[str] = []
        clean = _Walk(self._shapes, problems).value(self._inputs[action], body, "")
        if problems:
            noun = "error" if len(problems) == 1 else "errors"
            raise refuse("invalid", detail=f"{len(problems)} validation {noun} detected: {'; '.join(problems)}")
        return dict(clean)


def shape_of(raw: Mapping[str, Any]) -> Shape:
    """A shape of botocore's model, as it is in the file."""
    return Shape(
        type=raw["type"],
        required=tuple(raw.get("required", ())),
        members={name: member["shape"] for name, member in raw.get("members", {}).items()},
        element=(raw.get("member") or raw.get("value") or {}).get("shape", ""),
        key=raw.get("key", {}).get("shape", ""),
        minimum=raw.get("min"),
        maximum=raw.get("max"),
        pattern=raw.get("pattern", ""),
        enum=tuple(raw.get("enum", ())),
    )


@dataclass
class _Walk:
    """One pass over a request. ``path`` is in the service's spelling: ``productionVariants.1.member.modelName``."""

    shapes: Mapping[str, Shape]
    problems: list[str]

    def value(self, name: str, value: Any, path: str) -> Any:
        shape = self.shapes[name]
        check: Callable[[Shape, Any, str], Any] = {
            "structure": self._structure,
            "list": self._list,
            "map": self._map,
        }.get(shape.type, self._scalar)
        return check(shape, value, path)

    def _structure(self, shape: Shape, value: Any, path: str) -> dict[str, Any]:
        if not isinstance(value, Mapping):
            raise refuse("serialization", detail=f"{_token(value)} found at '{path}' where a structure was expected.")
        clean = {}
        for member, child in shape.members.items():
            given = value.get(member)
            if given is not None:
                clean[member] = self.value(child, given, _below(path, member))
            elif member in shape.required:
                self._fail(None, _below(path, member), "Member must not be null")
        return clean

    def _list(self, shape: Shape, value: Any, path: str) -> list[Any]:
        if not isinstance(value, list):
            raise refuse("serialization", detail=f"{_token(value)} found at '{path}' where a list was expected.")
        for constraint in _length(shape, len(value)):
            self._fail(value, path, constraint)
        return [self.value(shape.element, item, f"{path}.{n}.member") for n, item in enumerate(value, 1)]

    def _map(self, shape: Shape, value: Any, path: str) -> dict[str, Any]:
        if not isinstance(value, Mapping):
            raise refuse("serialization", detail=f"{_token(value)} found at '{path}' where a map was expected.")
        for constraint in _length(shape, len(value)):
            self._fail(value, path, constraint)
        key, element = self.shapes[shape.key], self.shapes[shape.element]
        if any(broken(key, name) for name in value):
            self._fail(value, path, f"Map keys must satisfy constraint: [{', '.join(_constraints(key))}]")
        if element.type not in _JAVA_NAMES:
            return {name: self.value(shape.element, item, f"{path}.{name}") for name, item in value.items()}
        for item in value.values():
            _require_type(element, item)
        if any(broken(element, item) for item in value.values()):
            self._fail(value, path, f"Map value must satisfy constraint: [{', '.join(_constraints(element))}]")
        return dict(value)

    def _scalar(self, shape: Shape, value: Any, path: str) -> Any:
        _require_type(shape, value)
        for constraint in broken(shape, value):
            self._fail(value, path, constraint)
        return value

    def _fail(self, value: Any, path: str, constraint: str) -> None:
        shown = "null" if value is None else f"'{_java(value)}'"
        self.problems.append(f"Value {shown} at '{path}' failed to satisfy constraint: {constraint}")


def _below(path: str, member: str) -> str:
    name = member[0].lower() + member[1:]
    return f"{path}.{name}" if path else name


def _java(value: Any) -> str:
    """The value as Java prints it, which is how SageMaker quotes it."""
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{name}={_java(item)}" for name, item in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(map(_java, value)) + "]"
    return value if isinstance(value, str) else json.dumps(value)


def _token(value: Any) -> str:
    if isinstance(value, bool):
        return f"{str(value).upper()}_VALUE"
    for python, java in ((str, "STRING_VALUE"), (dict, "Start of structure or map"), (list, "Start of list")):
        if isinstance(value, python):
            return java
    return "NUMBER_VALUE"


def _require_type(shape: Shape, value: Any) -> None:
    if shape.type == "string":
        fits = isinstance(value, str)
    elif shape.type == "boolean":
        fits = isinstance(value, bool)
    elif shape.type in ("integer", "long"):
        fits = isinstance(value, int) and not isinstance(value, bool)
    else:
        fits = isinstance(value, int | float) and not isinstance(value, bool)
    if not fits:
        verb = "found where not expected." if isinstance(value, dict | list) else "can not be converted to"
        target = "" if isinstance(value, dict | list) else f" {_JAVA_NAMES[shape.type]}"
        raise refuse("serialization", detail=f"{_token(value)} {verb}{target}")


def _length(shape: Shape, length: int) -> Iterator[str]:
    if shape.maximum is not None and length > shape.maximum:
        yield f"Member must have length less than or equal to {shape.maximum}"
    if shape.minimum is not None and length < shape.minimum:
        yield f"Member must have length greater than or equal to {shape.minimum}"


def broken(shape: Shape, value: Any) -> list[str]:
    """The constraints of a scalar shape that ``value``, which has its type, does not satisfy."""
    if shape.type == "string":
        found = list(_length(shape, len(value)))
        if shape.pattern and not _compile(shape.pattern).fullmatch(value):
            found.append(f"Member must satisfy regular expression pattern: {shape.pattern}")
        if shape.enum and value not in shape.enum:
            found.append(f"Member must satisfy enum value set: [{', '.join(shape.enum)}]")
        return found
    if shape.type not in _NUMBERS:
        return []
    found = []
    if shape.maximum is not None and value > shape.maximum:
        found.append(f"Member must have value less than or equal to {shape.maximum}")
    if shape.minimum is not None and value < shape.minimum:
        found.append(f"Member must have value greater than or equal to {shape.minimum}")
    return found


def _constraints(shape: Shape) -> list[str]:
    """All constraints of a string shape: a map at fault is answered with every one of them."""
    found = []
    if shape.maximum is not None:
        found.append(f"Member must have length less than or equal to {shape.maximum}")
    if shape.minimum is not None:
        found.append(f"Member must have length greater than or equal to {shape.minimum}")
    if shape.pattern:
        found.append(f"Member must satisfy regular expression pattern: {shape.pattern}")
    if shape.enum:
        found.append(f"Member must satisfy enum value set: [{', '.join(shape.enum)}]")
    return found


@cache
def _compile(pattern: str) -> re.Pattern[str]:
    r"""Java's regular expression as Python's.

    ``\p{L}`` and ``\p{N}`` become ``\w``, which is exact where a class also has the other one and ``_``, as all of
    SageMaker's do (a test holds that). Java's ``\w``, ``\d`` and ``\s`` are ASCII.
    """
    pattern = (
        pattern.replace("[\\p{Print}]", r"[\x20-\x7e]").replace("\\p{ASCII}", r"[\x00-\x7f]").replace("\\z", r"\Z")
    )
    if "\\p{L}" not in pattern:
        return re.compile(pattern.replace("\\p{Alnum}", "a-zA-Z0-9"), re.ASCII)
    return re.compile(pattern.replace("\\p{L}", r"\w").replace("\\p{N}", r"\w").replace("\\p{Z}", _SEPARATORS))
