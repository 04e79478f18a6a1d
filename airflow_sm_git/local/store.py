"""SageMaker's resources, kept in one SQLite file so that they outlive the process."""

from __future__ import annotations

import copy
import json
import sqlite3
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

Body = dict[str, Any]

_SCHEMA = """
CREATE TABLE IF NOT EXISTS resource (
    kind TEXT NOT NULL, key TEXT NOT NULL, name TEXT NOT NULL, arn TEXT NOT NULL, status TEXT NOT NULL,
    created REAL NOT NULL, modified REAL NOT NULL, body TEXT NOT NULL, PRIMARY KEY (kind, key)
) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS resource_arn ON resource (arn);
CREATE INDEX IF NOT EXISTS resource_modified ON resource (kind, modified);
CREATE TABLE IF NOT EXISTS tag (
    arn TEXT NOT NULL, key TEXT NOT NULL, value TEXT NOT NULL, PRIMARY KEY (arn, key)
) WITHOUT ROWID;
"""


@dataclass(frozen=True)
class Kind:
    """How one kind of resource names the members of its Describe answer.

    :param name: for instance ``TrainingJob``; the members ``<name>Name`` and ``<name>Arn`` follow from it.
    :param arn_type: the resource type in the ARN.
    :param status: member with the status, or "" for resources that have none.
    :param folds_case: names that differ in case only are one name.
    """

    name: str
    arn_type: str
    status: str = ""
    folds_case: bool = False

    def key(self, name: str) -> str:
        """What makes ``name`` unique among its kind."""
        return name.lower() if self.folds_case else name


TRAINING_JOB = Kind("TrainingJob", "training-job", "TrainingJobStatus")
MODEL = Kind("Model", "model")
ENDPOINT_CONFIG = Kind("EndpointConfig", "endpoint-config")
ENDPOINT = Kind("Endpoint", "endpoint", "EndpointStatus", folds_case=True)
KINDS = (TRAINING_JOB, MODEL, ENDPOINT_CONFIG, ENDPOINT)


class AlreadyExists(ValueError):
    """A resource of this kind and name is there already.

    :param arn: the ARN of the one that is there.
    """

    def __init__(self, arn: str) -> None:
        super().__init__(f"{arn} exists")
        self.arn = arn


class Store:
    """Resources by kind and name, and tags by ARN. Any number of threads may use one store.

    A body is what Describe answers; members that start with ``_`` are the server's own. Times are seconds since the
    epoch. ``LastModifiedTime`` is set here, so that a listing by it never misses a change.

    :param path: the SQLite file; made if missing.
    :param clock: seconds since the epoch.
    """

    def __init__(self, path: Path, *, clock: Callable[[], float] = time.time) -> None:
        self._clock = clock
        self._lock = threading.RLock()
        self._db = sqlite3.connect(path, check_same_thread=False, isolation_level=None)
        # WAL without a sync per commit keeps every commit through a kill of the process, not through a power cut.
        self._db.executescript(f"PRAGMA journal_mode=WAL; PRAGMA synchronous=NORMAL; {_SCHEMA}")

    def close(self) -> None:
        """Close the file. The store cannot be used afterwards."""
        with self._lock:
            self._db.close()

    def copy(self) -> Store:
        """A store in memory with what is here now."""
        other = Store(Path(":memory:"), clock=self._clock)
        with self._lock:
            self._db.backup(other._db)
        return other

    def insert(self, kind: Kind, body: Body, tags: Sequence[Mapping[str, str]] = ()) -> Body:
        """Add a resource with its tags, or nothing.

        :param body: with its name and ARN members; the two times are set here.
        :returns: the body as kept.
        :raises AlreadyExists: the name is taken.
        """
        now = self._now()
        body = {**body, "CreationTime": now, "LastModifiedTime": now}
        row = (*_columns(kind, body), json.dumps(body))
        arn = body[f"{kind.name}Arn"]
        with self._lock, self._transaction():
            taken = self._row(kind, body[f"{kind.name}Name"])
            if taken is not None:
                raise AlreadyExists(taken[f"{kind.name}Arn"])
            self._db.execute("INSERT INTO resource VALUES (?, ?, ?, ?, ?, ?, ?, ?)", row)
            self._db.execute("DELETE FROM tag WHERE arn = ?", (arn,))
            self._db.executemany("INSERT INTO tag VALUES (?, ?, ?)", [(arn, t["Key"], t["Value"]) for t in tags])
        return body

    def get(self, kind: Kind, name: str) -> Body | None:
        """The resource's body, or None."""
        with self._lock:
            return self._row(kind, name)

    def update(self, kind: Kind, name: str, change: Callable[[Body], object]) -> Body | None:
        """Let ``change`` alter the body in place, alone among all threads; what it raises leaves the body as it was.

        :returns: the new body, or None if the resource is not there (any more).
        """
        with self._lock, self._transaction():
            before = self._row(kind, name)
            if before is None:
                return None
            body = copy.deepcopy(before)
            change(body)
            if body != before:
                # Two changes within the clock's grain stay apart.
                body["LastModifiedTime"] = max(self._now(), round(before["LastModifiedTime"] + 0.001, 3))
                _, _, _, _, status, _, modified = _columns(kind, body)
                self._db.execute(
                    "UPDATE resource SET status = ?, modified = ?, body = ? WHERE kind = ? AND key = ?",
                    (status, modified, json.dumps(body), kind.name, kind.key(name)),
                )
            return body

    def delete(self, kind: Kind, name: str) -> Body | None:
        """Remove the resource and its tags.

        :returns: what was removed, or None.
        """
        with self._lock, self._transaction():
            body = self._row(kind, name)
            if body is not None:
                self._db.execute("DELETE FROM resource WHERE kind = ? AND key = ?", (kind.name, kind.key(name)))
                self._db.execute("DELETE FROM tag WHERE arn = ?", (body[f"{kind.name}Arn"],))
            return body

    def query(self, kind: Kind, where: str, parameters: Sequence[object], tail: str) -> list[Body]:
        """Bodies that an SQL condition over the columns selects.

        :param where: condition over ``name``, ``status``, ``created`` and ``modified``; constant text, never input.
        :param tail: ORDER BY and LIMIT; constant text, never input.
        """
        sql = f"SELECT body FROM resource WHERE kind = ? AND ({where}) {tail}"  # noqa: S608 - see the parameters
        with self._lock, closing(self._db.execute(sql, (kind.name, *parameters))) as cursor:
            return [json.loads(body) for (body,) in cursor]

    def with_status(self, kind: Kind, *statuses: str) -> list[Body]:
        """All resources of the kind in one of the statuses."""
        marks = ", ".join("?" * len(statuses))
        return self.query(kind, f"status IN ({marks})", statuses, "ORDER BY created")

    def has_arn(self, arn: str) -> bool:
        """Whether a resource with this ARN exists."""
        with self._lock:
            return self._db.execute("SELECT 1 FROM resource WHERE arn = ?", (arn,)).fetchone() is not None

    def tags(self, arn: str) -> dict[str, str]:
        """The tags of a resource, by key."""
        with self._lock:
            return dict(self._db.execute("SELECT key, value FROM tag WHERE arn = ? ORDER BY key", (arn,)).fetchall())

    def change_tags(self, arn: str, change: Callable[[dict[str, str]], object]) -> dict[str, str]:
        """Let ``change`` alter the tags in place; what it raises leaves them as they were.

        :returns: the new tags.
        """
        with self._lock, self._transaction():
            tags = self.tags(arn)
            change(tags)
            self._db.execute("DELETE FROM tag WHERE arn = ?", (arn,))
            self._db.executemany("INSERT INTO tag VALUES (?, ?, ?)", [(arn, key, value) for key, value in tags.items()])
            return tags

    def _now(self) -> float:
        return round(self._clock(), 3)  # SageMaker's times have milliseconds

    def _row(self, kind: Kind, name: str) -> Body | None:
        row = self._db.execute(
            "SELECT body FROM resource WHERE kind = ? AND key = ?", (kind.name, kind.key(name))
        ).fetchone()
        return None if row is None else json.loads(row[0])

    def _transaction(self) -> _Transaction:
        return _Transaction(self._db)


class _Transaction:
    """One SQLite transaction; nested ones belong to the outermost."""

    def __init__(self, db: sqlite3.Connection) -> None:
        self._db = db
        self._outermost = False

    def __enter__(self) -> None:
        self._outermost = not self._db.in_transaction
        if self._outermost:
            self._db.execute("BEGIN IMMEDIATE")

    def __exit__(self, error: type[BaseException] | None, *_: object) -> None:
        if self._outermost:
            self._db.execute("COMMIT" if error is None else "ROLLBACK")


def _columns(kind: Kind, body: Body) -> tuple[str, str, str, str, str, float, float]:
    name = body[f"{kind.name}Name"]
    status = body[kind.status] if kind.status else ""
    created, modified = body["CreationTime"], body["LastModifiedTime"]
    return kind.name, kind.key(name), name, body[f"{kind.name}Arn"], status, created, modified
