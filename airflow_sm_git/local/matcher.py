"""A small program that looks for metrics in a job's lines, so that no regular expression can hold up the server.

``re`` keeps the interpreter's lock while it searches, and an expression such as ``(a+)+$`` can search for ever. Run as
``python -I -S matcher.py``; standard library only. On standard input come lines of JSON: first the list of expressions,
then ``[time, text]`` for each line of the job. On standard output go lines of JSON: ``["found", index, value, time]``
for each value, and ``["lost", index]`` once for an expression that takes too long and is not used any more. It ends
when its input does.
"""

from __future__ import annotations

import json
import re
import signal
import sys
import time
from collections.abc import Iterator

LONGEST = 1.0
"""Seconds that one search may take."""
SLOW, ALL_SLOW = 0.05, 5.0
"""A search longer than the first is slow; when all the slow ones took more than the second, the metric is lost."""


class TooSlow(Exception):
    """A search took longer than :data:`LONGEST`."""


def _ring(*_: object) -> None:
    raise TooSlow


def values(pattern: re.Pattern[str], text: str) -> list[str | None]:
    """What the first group (without one, the whole expression) matched, each time.

    :raises TooSlow: the search was ended (``re`` looks for signals now and then while it searches).
    """
    signal.setitimer(signal.ITIMER_REAL, LONGEST)
    try:
        return [match.group(1 if pattern.groups else 0) for match in pattern.finditer(text)]
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)


class Search:
    """One expression, and the time that its slow searches took."""

    def __init__(self, expression: str) -> None:
        self.pattern = re.compile(expression)
        self.left = ALL_SLOW

    def find(self, text: str) -> list[str | None]:
        """Its values in one line; once it has taken too long, :attr:`left` is below zero."""
        began = time.monotonic()
        try:
            return values(self.pattern, text)
        except (TooSlow, RecursionError, MemoryError):
            self.left = -1.0
            return []
        finally:
            took = time.monotonic() - began
            self.left -= took if took > SLOW else 0.0


def answers(searches: list[Search], at: float, text: str) -> Iterator[list[object]]:
    """What is to be said about one line."""
    for index, search in enumerate(searches):
        if search.left < 0:
            continue
        for value in search.find(text):
            yield ["found", index, value, at]
        if search.left < 0:
            yield ["lost", index]


def main() -> None:
    """Answer until the input ends."""
    signal.signal(signal.SIGALRM, _ring)
    for number in (signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)  # the end of the input says when it is over
    searches = [Search(expression) for expression in json.loads(sys.stdin.readline())]
    for line in sys.stdin:
        for answer in answers(searches, *json.loads(line)):
            print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    try:
        main()
    except BrokenPipeError:
        sys.stderr.close()
