from __future__ import annotations

from typing import Any

import pytest

from airflow_sm_git.core.literals import read


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ('{"a": [1, null, true]}', {"a": [1, None, True]}),
        (" {'a': (1, None, True)} ", {"a": (1, None, True)}),
        ("7", 7),
        ("plain text ", "plain text"),
        ("{'a': open('/etc/passwd')}", "{'a': open('/etc/passwd')}"),
        ("", ""),
        ("[" * 100_000, "[" * 100_000),
    ],
)
def test_what_a_text_writes_is_read_and_nothing_is_run(text: str, value: Any) -> None:
    assert read(text) == value


@pytest.mark.parametrize("value", [None, 7, b"7", {"a": "7"}])
def test_what_is_no_text_stays(value: Any) -> None:
    assert read(value) is value
