"""Which of a job's variables and hyperparameters are secrets, by their names."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any

# Airflow's own list of sensitive field names, and the ways in which variables are spelt.
_NAMES = re.compile(
    r"access_?token|api_?key|authorization|passphrase|passwd|password|private_?key|secret|token|access_?key|credential",
    re.IGNORECASE,
)
_COUNTS = re.compile(r"(max|min|num|n)_.*tokens?$|tokens?_(per|count)|tokenizer", re.IGNORECASE)
_SHORTEST = 5  # characters; what is shorter would hide half the log


def sensitive_values(*mappings: Mapping[str, Any] | None) -> list[str]:
    """The texts that must not be shown.

    :param mappings: variables or hyperparameters; a value may be JSON, as SageMaker keeps hyperparameters.
    """
    found = []
    for mapping in mappings:
        for name, value in (mapping or {}).items():
            if _NAMES.search(name) and not _COUNTS.search(name):
                text = _decoded(value)
                if len(text) >= _SHORTEST:
                    found.append(text)
    return found


def hidden(text: str, secrets: Sequence[str]) -> str:
    """A text without some others."""
    for secret in secrets:
        text = text.replace(secret, "***")
    return text


def _decoded(value: Any) -> str:
    if isinstance(value, str):
        with suppress(ValueError):
            inner = json.loads(value)
            value = inner if isinstance(inner, str) else value
    return value if isinstance(value, str) else ""
