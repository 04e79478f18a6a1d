"""CloudWatch Logs' memory: groups, streams and events in one SQLite file."""

from __future__ import annotations

import logging
import sqlite3
import threading
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path

from airflow_sm_git.local.errors import api_error

_SCHEMA = """
CREATE TABLE IF NOT EXISTS groups (name TEXT PRIMARY KEY, created INTEGER NOT NULL);
CREATE TABLE IF NOT EXISTS streams (id INTEGER PRIMARY KEY, grp TEXT NOT NULL, name TEXT NOT NULL,
  created INTEGER NOT NULL, UNIQUE (grp, name));
CREATE TABLE IF NOT EXISTS events (id INTEGER PRIMARY KEY, stream INTEGER NOT NULL, at INTEGER NOT NULL,
  ingested INTEGER NOT NULL, message TEXT NOT NULL);
CREATE INDEX IF NOT EXISTS events_by_time ON events (stream, at, id);
"""

DELAY = 0.2
"""Seconds after which a line of :meth:`LogStore.write` is in the file at the latest."""
_BATCH, _BATCH_CHARACTERS = 1000, 1 << 20
_log = logging.getLogger(__name__)


def now_ms() -> int:
    """The time, in milliseconds since the epoch, as CloudWatch counts it."""
    return time.time_ns() // 1_000_000


@dataclass(frozen=True)
class Stream:
    """A log stream. Times in epoch milliseconds; the event times are None while it is empty."""

    id: int
    name: str
    created: int
    first: int | None
    last: int | None
    ingested: int | None


@dataclass(frozen=True)
class Event:
    """One log line. ``at`` and ``ingested`` in epoch milliseconds; ``(at, id)`` is its place in the stream."""

    id: int
    stream: str
    at: int
    ingested: int
    message: str


class LogStore:
    """Log groups, streams and events. Thread-safe.

    :param path: the SQLite file, made when missing.
    """

    def __init__(self, path: Path) -> None:
        self._lock = threading.RLock()
        self._waiting: list[tuple[str, str, int, str]] = []
        self._size = 0
        self._failed = False
        self._due = threading.Event()
        self._closed = threading.Event()
        self._flusher = threading.Thread(target=self._flush_in_time, name="log lines", daemon=True)
        self._db = sqlite3.connect(path, check_same_thread=False, isolation_level=None)
        self._db.execute("PRAGMA journal_mode=WAL")
        self._db.execute("PRAGMA synchronous=NORMAL")
        self._db.executescript(_SCHEMA)

    def close(self) -> None:
        """Close the file. The store cannot be used afterwards."""
        self._closed.set()
        self._due.set()
        with self._lock:
            try:
                self.flush()
            finally:
                self._db.close()

    @contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        with self._lock:
            self._db.execute("BEGIN IMMEDIATE")
            try:
                yield self._db
            except BaseException:
                self._db.execute("ROLLBACK")
                raise
            self._db.execute("COMMIT")

    # Writing

    def create_group(self, group: str) -> bool:
        """Make a group; False where it exists already."""
        with self._transaction() as db:
            return db.execute("INSERT OR IGNORE INTO groups VALUES (?, ?)", (group, now_ms())).rowcount == 1

    def create_stream(self, group: str, stream: str) -> bool:
        """Make a stream; False where it exists already.

        :raises ApiError: ResourceNotFoundException, no such group.
        """
        with self._transaction() as db:
            self._require_group(group)
            row = (group, stream, now_ms())
            return db.execute("INSERT OR IGNORE INTO streams (grp, name, created) VALUES (?, ?, ?)", row).rowcount == 1

    def append(self, group: str, stream: str, events: Iterable[tuple[int, str]]) -> None:
        """Add lines to a stream; group and stream are made when missing.

        :param events: epoch milliseconds and text of each line.
        """
        with self._lock:
            self.flush()
            with self._transaction() as db:
                _insert(db, group, stream, events)

    def write(self, group: str, stream: str, message: str) -> None:
        """Add one line that was said now. It is read at once, and in the file within :data:`DELAY`.

        :raises sqlite3.Error: the file cannot be written; the lines are kept, and tried again with the next one.
        """
        with self._lock:
            self._waiting.append((group, stream, now_ms(), message))
            self._size += len(message)
            full = len(self._waiting) >= _BATCH or self._size >= _BATCH_CHARACTERS
            if full or self._failed or self._closed.is_set():
                self.flush()
                self._failed = False
            else:
                if self._flusher.ident is None:
                    self._flusher.start()
                self._due.set()

    def flush(self) -> None:
        """Put the lines of :meth:`write` into the file now, in one transaction.

        :raises sqlite3.Error: the file cannot be written.
        """
        with self._lock:
            if not self._waiting:
                return
            with self._transaction() as db:
                for (group, stream), lines in groupby(self._waiting, key=lambda line: line[:2]):
                    _insert(db, group, stream, [line[2:] for line in lines])
            self._waiting.clear()
            self._size = 0

    def _flush_in_time(self) -> None:
        while self._due.wait() and not self._closed.wait(DELAY):
            self._due.clear()
            try:
                self.flush()
            except sqlite3.Error:
                _log.exception("log lines cannot be written")
                self._failed = True

    # Reading

    def groups(self, prefix: str = "") -> list[tuple[str, int]]:
        """Groups by name, with their times of creation, whose names start with ``prefix``."""
        with self._lock:
            self.flush()
            rows: list[tuple[str, int]] = self._db.execute("SELECT name, created FROM groups ORDER BY name").fetchall()
        return [row for row in rows if row[0].startswith(prefix)]

    def streams(self, group: str, prefix: str = "") -> list[Stream]:
        """Streams of a group by name, whose names start with ``prefix``.

        :raises ApiError: ResourceNotFoundException, no such group.
        """
        query = """SELECT s.id, s.name, s.created, min(e.at), max(e.at), max(e.ingested) FROM streams s
          LEFT JOIN events e ON e.stream = s.id WHERE s.grp = ? GROUP BY s.id ORDER BY s.name"""
        with self._lock:
            self.flush()
            self._require_group(group)
            rows = self._db.execute(query, (group,)).fetchall()
        return [Stream(*row) for row in rows if row[1].startswith(prefix)]

    def require_stream(self, group: str, stream: str) -> int:
        """The number of a stream.

        :raises ApiError: ResourceNotFoundException, no such group, or no such stream in it.
        """
        with self._lock:
            self.flush()
            self._require_group(group)
            row = self._db.execute("SELECT id FROM streams WHERE grp = ? AND name = ?", (group, stream)).fetchone()
        if not row:
            raise api_error("logs.no_stream")
        number: int = row[0]
        return number

    def read(
        self,
        streams: Iterable[int],
        *,
        limit: int,
        start: int | None = None,
        end: int | None = None,
        after: tuple[int, int] | None = None,
        before: tuple[int, int] | None = None,
    ) -> list[Event]:
        """Events of some streams in the order of their times, at most ``limit``.

        :param streams: numbers of streams.
        :param start: leave out what is earlier (epoch milliseconds).
        :param end: leave out what is not earlier (epoch milliseconds).
        :param after: only what comes after this place ``(at, id)``.
        :param before: only the last ``limit`` that come before this place.
        """
        numbers = list(streams)
        conditions = [f"e.stream IN ({', '.join('?' * len(numbers))})"]
        values: list[object] = [*numbers]
        for text, value in (
            ("e.at >= ?", None if start is None else (start,)),
            ("e.at < ?", None if end is None else (end,)),
            ("(e.at, e.id) > (?, ?)", after),
            ("(e.at, e.id) < (?, ?)", before),
        ):
            if value is not None:
                conditions.append(text)
                values.extend(value)
        order = "DESC" if before else "ASC"
        query = f"""SELECT e.id, s.name, e.at, e.ingested, e.message FROM events e JOIN streams s ON s.id = e.stream
          WHERE {" AND ".join(conditions)} ORDER BY e.at {order}, e.id {order} LIMIT ?"""  # noqa: S608 (no values in it)
        with self._lock:
            self.flush()
            rows = self._db.execute(query, (*values, limit)).fetchall()
        return [Event(*row) for row in (reversed(rows) if before else rows)]

    def _require_group(self, group: str) -> None:
        if not self._db.execute("SELECT 1 FROM groups WHERE name = ?", (group,)).fetchone():
            raise api_error("logs.no_group")


def _insert(db: sqlite3.Connection, group: str, stream: str, events: Iterable[tuple[int, str]]) -> None:
    now = now_ms()
    db.execute("INSERT OR IGNORE INTO groups VALUES (?, ?)", (group, now))
    db.execute("INSERT OR IGNORE INTO streams (grp, name, created) VALUES (?, ?, ?)", (group, stream, now))
    (number,) = db.execute("SELECT id FROM streams WHERE grp = ? AND name = ?", (group, stream)).fetchone()
    rows = ((number, at, now, message) for at, message in events)
    db.executemany("INSERT INTO events (stream, at, ingested, message) VALUES (?, ?, ?, ?)", rows)
