"""The headers of InvokeEndpoint, held against botocore's model of the SageMaker runtime before anything is asked."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import cache
from typing import Any

from botocore.loaders import Loader

from airflow_sm_git.local.errors_sagemaker import refuse
from airflow_sm_git.local.model import Shape, broken, shape_of


def check(endpoint: str, headers: Mapping[str, str]) -> None:
    """Refuse an invocation whose endpoint name or headers are longer than allowed, or hold what is not allowed.

    :param endpoint: the name in the address.
    :param headers: of the request, names in lower case.
    :raises ApiError: ``ValidationError`` that names every member at fault.
    """
    problems = list(_problems({"endpointname": endpoint, **headers}))
    if problems:
        noun = "error" if len(problems) == 1 else "errors"
        raise refuse("invoke.invalid", detail=f"{len(problems)} validation {noun} detected: {'; '.join(problems)}")


def _problems(given: Mapping[str, str]) -> Iterator[str]:
    for place, (member, shape, sensitive) in _members().items():
        if (value := given.get(place)) is None:
            continue
        shown = "" if sensitive else f"'{value}' "
        for constraint in broken(shape, value):
            yield f"Value {shown}at '{member[0].lower()}{member[1:]}' failed to satisfy constraint: {constraint}"


@cache
def _members() -> dict[str, tuple[str, Shape, bool]]:
    """Member, shape and whether it may be quoted, by header (or by part of the address), in lower case."""
    raw: dict[str, Any] = Loader().load_service_model("sagemaker-runtime", "service-2")
    shapes = raw["shapes"]
    members = shapes[raw["operations"]["InvokeEndpoint"]["input"]["shape"]]["members"]
    found = {}
    for name, member in members.items():
        if member.get("location") in ("header", "uri"):
            raw_shape = shapes[member["shape"]]
            found[member["locationName"].lower()] = name, shape_of(raw_shape), raw_shape.get("sensitive", False)
    return found
