"""Values that are written as text: JSON, or the Python literal that Jinja makes of a value."""

from __future__ import annotations

import ast
import json
from contextlib import suppress
from typing import Any


def read(value: Any) -> Any:
    """The value that a text writes as JSON or as a Python literal; a text that does neither, and no text, stay."""
    if not isinstance(value, str):
        return value
    with suppress(ValueError, RecursionError):  # it is no JSON
        return json.loads(value)
    with suppress(ValueError, SyntaxError, MemoryError, RecursionError):  # nor a literal: it is a text
        return ast.literal_eval(value.strip())
    return value.strip()
