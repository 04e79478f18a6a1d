"""Which of a job's variables and hyperparameters are secrets, by their names."""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any

# Airflow's own list of sensitive field names, and the ways in which variables are spelt.
_NAMES = re.compile(
    r"access[-_]?token|api[-_]?key|authorization|passphrase|passwd|password|private[-_]?key|secret|access[-_]?key"
    r"|credential",
    re.IGNORECASE,
)
# Tokens that are no secrets are those that a model reads: max_new_tokens, tokens_per_batch, tokenizer.
_TOKEN = re.compile(r"token", re.IGNORECASE)
_READ = re.compile(r"(^|[-_])(max|min|num|n)[-_](.*[-_])?tokens$|tokens[-_](per|count)|tokeniz", re.IGNORECASE)
_SHORTEST = 5  # characters; what is shorter would hide half the log


def is_sensitive(name: str) -> bool:
    """Whether what a variable or hyperparameter of this name holds must not be shown."""
    return bool(_NAMES.search(name) or (_TOKEN.search(name) and not _READ.search(name)))


def sensitive_values(*given: Any) -> list[str]:
    """The texts that must not be shown.

    :param given: variables or hyperparameters, as deep as they may go: mappings, sequences, JSON of them, as SageMaker
        keeps hyperparameters, or Python literals of them, as templates write dicts.
    """
    found: list[str] = []
    for each in given:
        _collect(each, False, found)
    return list(dict.fromkeys(text for text in found if len(text) >= _SHORTEST))


def hidden(text: str, secrets: Sequence[str]) -> str:
    """A text without some others; of two that begin alike, the longer goes first."""
    for secret in sorted(secrets, key=len, reverse=True):
        text = text.replace(secret, "***")
    return text


def _collect(value: Any, sensitive: bool, found: list[str]) -> None:
    """:param sensitive: it, or what it is in, has a sensitive name."""
    inner = _decoded(value)
    if sensitive and isinstance(value, str) and not isinstance(inner, str):
        found.append(value)
    if isinstance(inner, Mapping):
        for name, each in inner.items():
            _collect(each, sensitive or is_sensitive(str(name)), found)
    elif isinstance(inner, list | tuple):
        for each in inner:
            _collect(each, sensitive, found)
    elif sensitive and isinstance(inner, str):
        found.append(inner)
    elif sensitive and isinstance(inner, bytes):
        found.append(inner.decode(errors="replace"))


def _decoded(value: Any) -> Any:
    """What a text holds as JSON or as a Python literal, if that is more than a number."""
    if not isinstance(value, str):
        return value
    inner: Any = value
    with suppress(ValueError, SyntaxError, MemoryError, RecursionError):
        try:
            inner = json.loads(value)
        except ValueError:
            inner = ast.literal_eval(value.strip())
    return inner if isinstance(inner, str | dict | list | tuple) else value
