"""Values of parameters as they come out of templates, which are text: read, and checked.

An empty text is what an empty Param renders to, and means that nothing was given.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from datetime import timedelta
from typing import Any

from airflow_sm_git.core.errors import BadParameter
from airflow_sm_git.core.literals import read
from airflow_sm_git.core.sensitive import is_sensitive

_FALSE = frozenset({"", "0", "false", "no", "none", "off"})
_TRUE = frozenset({"1", "true", "yes", "on"})
SECRETIVE = frozenset({"environment"})  # may hold secrets: an error does not show the value


def seconds(parameter: str, value: float | timedelta) -> float:
    """A duration given as seconds or timedelta.

    :raises BadParameter: it is neither, or negative.
    """
    if isinstance(value, timedelta):
        value = value.total_seconds()
    number = as_number(parameter, value)
    if number < 0:
        raise BadParameter(parameter, value, "is negative", "Give seconds, or a timedelta.")
    return number


def as_number(parameter: str, value: Any) -> float:
    """A finite number.

    :raises BadParameter: it is none.
    """
    try:
        number = float(value)
    except (TypeError, ValueError) as error:
        raise BadParameter(parameter, value, "is not a number", "Write digits.") from error
    if not math.isfinite(number):
        raise BadParameter(parameter, value, "is not a finite number", "Write digits.")
    return number


def as_int(parameter: str, value: Any) -> int:
    """A whole number.

    :raises BadParameter: it is none.
    """
    number = as_number(parameter, value)
    if number != int(number):
        raise BadParameter(parameter, value, "is not a whole number", "Write digits only.")
    return int(number)


def as_bool(parameter: str, value: Any) -> bool:
    """A truth value.

    :raises BadParameter: it is a text that is neither.
    """
    if not isinstance(value, str):
        return bool(value)
    word = value.strip().lower()
    if word not in _TRUE | _FALSE:
        raise BadParameter(parameter, value, "is neither true nor false", "Write True or False.")
    return word in _TRUE


def as_mapping(parameter: str, value: Any) -> dict[str, Any]:
    """A dict, or its JSON, or the Python literal that Jinja makes of it; None and empty text are an empty one.

    :raises BadParameter: it is something else.
    """
    value = read(value)
    if not value:
        return {}
    if not isinstance(value, Mapping):
        problem = "is not JSON of a dict" if isinstance(value, str) else "is not a dict"
        raise BadParameter(parameter, _shown(parameter, value), problem, "Give a dict or its JSON.")
    return dict(value)


def _shown(parameter: str, value: Any) -> Any:
    """What an error may show of a value that could not be read, so nobody knows which part of it is secret."""
    return "***" if parameter in SECRETIVE or is_sensitive(str(value)) else value


def as_text_mapping(parameter: str, value: Any) -> dict[str, str]:
    """A dict of texts.

    :raises BadParameter: it is something else.
    """
    found = as_mapping(parameter, value)
    for key, each in found.items():
        if not isinstance(key, str) or not isinstance(each, str):
            shown = key if parameter in SECRETIVE else {key: each}
            raise BadParameter(parameter, shown, "is not a text", "Put the value into quotes.")
    return found


def as_list(parameter: str, value: Any) -> list[Any]:
    """A list, or its JSON, or the Python literal that Jinja makes of it; None and empty text are an empty one.

    :raises BadParameter: it is something else.
    """
    value = read(value)
    if not value:
        return []
    if isinstance(value, str | Mapping) or not hasattr(value, "__iter__"):
        raise BadParameter(parameter, _shown(parameter, value), "is not a list", "Give a list or its JSON.")
    return list(value)


def given(value: Any) -> Any:
    """None for an empty text, anything else as it is."""
    return None if value == "" else value
