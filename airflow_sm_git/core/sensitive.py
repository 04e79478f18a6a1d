"""Which of a job's variables and hyperparameters are secrets, by their names."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from airflow_sm_git.core.literals import read

# Airflow's own list of sensitive field names, and the ways in which variables are spelt.
_NAMES = re.compile(
    r"access[-_]?token|api[-_]?key|authorization|passphrase|passwd|password|private[-_]?key|secret|access[-_]?key"
    r"|credential",
    re.IGNORECASE,
)
# Tokens that are no secrets are those that a model reads: max_new_tokens, tokens_per_batch, tokenizer.
_TOKEN = re.compile(r"token", re.IGNORECASE)
_READ = re.compile(r"(^|[-_])(max|min|num|n)[-_](.*[-_])?tokens$|tokens[-_](per|count)|tokeniz", re.IGNORECASE)
_COUNTED = re.compile(r"tokens|token[-_]?i(d|ndex)", re.IGNORECASE)
_SHORTEST = 5  # characters; what is shorter would hide half the log
_WORD = re.compile(r"true|false|null|none", re.IGNORECASE)
_NUMBER = re.compile(r"[-+]?\d+(\.\d*)?([eE][-+]?\d+)?")


def is_sensitive(name: str) -> bool:
    """Whether what a variable or hyperparameter of this name holds must not be shown."""
    return _degree(name) > 0


def _degree(name: str) -> int:
    """2 for a name that means a secret, 1 for one that may: a number is then rather that of words."""
    if _NAMES.search(name):
        return 2
    if not _TOKEN.search(name) or _READ.search(name):
        return 0
    return 1 if _COUNTED.search(name) else 2


def sensitive_values(*given: Any) -> list[str]:
    """The texts that must not be shown, in each spelling that a log may have of them.

    :param given: variables or hyperparameters, as deep as they may go: mappings, sequences, JSON of them, as SageMaker
        keeps hyperparameters, or Python literals of them, as templates write dicts.
    """
    found: list[str] = []
    for each in given:
        _collect(each, 0, found)
    spelt = [spelling for text in found for spelling in _spellings(text)]
    return list(dict.fromkeys(text for text in spelt if len(text) >= _SHORTEST))


def hidden(text: str, secrets: Sequence[str]) -> str:
    """A text without some others; of two that begin alike, the longer goes first."""
    for secret in sorted(secrets, key=len, reverse=True):
        text = text.replace(secret, "***")
    return text


def _spellings(text: str) -> Iterator[str]:
    """A text as it is, as JSON and Python write it, and line by line, as a log has it."""
    yield text
    yield json.dumps(text)[1:-1]
    yield json.dumps(text, ensure_ascii=False)[1:-1]
    yield repr(text)[1:-1]
    yield from (line.strip() for line in text.splitlines())


def _collect(value: Any, degree: int, found: list[str]) -> None:
    """:param degree: how sensitive its name is, or that of what it is in."""
    inner = _decoded(value)
    if degree and isinstance(value, str) and not isinstance(inner, str):
        found.append(value)
    if isinstance(inner, Mapping):
        for name, each in inner.items():
            _collect(each, max(degree, _degree(str(name))), found)
    elif isinstance(inner, list | tuple):
        for each in inner:
            _collect(each, degree, found)
    elif isinstance(inner, bytes | str | int | float):
        text = inner.decode(errors="replace") if isinstance(inner, bytes) else str(inner)
        plain = _WORD.fullmatch(text) or (degree == 1 and _NUMBER.fullmatch(text))
        if degree and not plain:
            found.append(text)


def _decoded(value: Any) -> Any:
    """What a text writes, if that is more than a number."""
    inner = read(value)
    return inner if isinstance(inner, str | Mapping | list | tuple) else value
