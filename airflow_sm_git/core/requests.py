"""Small operations on request dicts."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

from airflow_sm_git.core.errors import BadParameter


def pruned(request: Mapping[str, Any]) -> dict[str, Any]:
    """Leave out what is None, and the dicts and lists that are empty, at every level of dicts.

    An empty string, 0 and False stay: they say something.
    """
    result = {}
    for key, value in request.items():
        kept = pruned(value) if isinstance(value, Mapping) else value
        if kept is not None and kept != {} and kept != []:
            result[key] = kept
    return result


def refuse_names(overrides: Mapping[str, Any], names: Collection[str], where: str) -> None:
    """Names are what everything made is found again by, so no override may change one.

    :param where: the parameter, for the error.
    :raises BadParameter: an override names one of them.
    """
    for name in names:
        if name in overrides:
            raise BadParameter(where, {name: overrides[name]}, "is a name that this package gives", "Leave it out.")


def deep_merge(request: Mapping[str, Any], overrides: Mapping[str, Any]) -> dict[str, Any]:
    """Lay overrides over a request: dicts are merged, everything else is replaced, None removes a field."""
    merged = dict(request)
    for key, value in overrides.items():
        if value is None:
            merged.pop(key, None)
        elif isinstance(value, Mapping):
            below = merged.get(key)
            merged[key] = deep_merge(below if isinstance(below, Mapping) else {}, value)
        else:
            merged[key] = value
    return merged
