"""Rows of figures, and how they are measured and printed."""

from __future__ import annotations

import statistics
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Row:
    """One figure beside its peer's.

    :param limit: what it must not exceed, in the same unit; None for none.
    """

    what: str
    ours: float
    unit: str
    peer: str = ""
    theirs: float | None = None
    limit: float | None = None

    def __str__(self) -> str:
        limit = f"{self.limit:g}" if self.limit is not None else ""
        theirs = f"{self.theirs:.3f}" if self.theirs is not None else ""
        ratio = f"{self.ours / self.theirs:.2f}" if self.theirs else ""
        met = "" if self.limit is None else ("yes" if self.ours <= self.limit else "NO")
        return f"| {self.what} | {self.ours:.3f} {self.unit} | {limit} | {met} | {self.peer} | {theirs} | {ratio} |"


HEADER = "| figure | ours | limit | met | peer | peer's | ours / peer's |\n|---|---|---|---|---|---|---|"


def median(measure: Callable[[], float], times: int) -> float:
    """The median of several measurements."""
    return statistics.median(measure() for _ in range(times))


def in_new_interpreter(code: str, arguments: Sequence[str] = (), python: str = sys.executable) -> float:
    """Run code in an interpreter of its own; it prints one number."""
    done = subprocess.run([python, "-c", code, *arguments], check=True, capture_output=True, text=True)
    return float(done.stdout.split()[-1])
