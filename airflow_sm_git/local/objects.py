"""Objects in buckets on a disk: the store behind the S3 endpoint, used directly by training jobs and models.

An object's bytes are one file with a random name (a *blob*); that it exists, and under which key, is one row of
a SQLite index. A write makes the blob durable, then swaps the row in one transaction, then drops the old blob. So
a reader sees the old object or the new one, whole, wherever the server was killed; blobs without a row are swept
at the next start. Keys may be anything that S3 allows, because none becomes a file name.
"""

from __future__ import annotations

import hashlib
import json
import os
import sqlite3
import threading
import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import BinaryIO

from airflow_sm_git.local.checksums import Checksum
from airflow_sm_git.local.errors import api_error

CHUNK = 1 << 20
_SCHEMA = """
CREATE TABLE IF NOT EXISTS buckets (name TEXT PRIMARY KEY, created REAL NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS objects (bucket TEXT, key TEXT, blob TEXT NOT NULL, size INTEGER NOT NULL,
  etag TEXT NOT NULL, modified REAL NOT NULL, about TEXT NOT NULL, PRIMARY KEY (bucket, key)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS uploads (id TEXT PRIMARY KEY, bucket TEXT NOT NULL, key TEXT NOT NULL,
  created REAL NOT NULL, about TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS parts (upload TEXT, number INTEGER, blob TEXT NOT NULL, size INTEGER NOT NULL,
  etag TEXT NOT NULL, modified REAL NOT NULL, checksum TEXT, PRIMARY KEY (upload, number)) WITHOUT ROWID;
"""


@dataclass(frozen=True)
class About:
    """What a client says about an object besides its bytes.

    :param metadata: user metadata, keys without ``x-amz-meta-``.
    :param headers: other headers that S3 keeps and gives back (``cache-control``, ``content-encoding``, …).
    :param checksum: algorithm (``crc32``, ``sha1``, ``sha256``) and base64 value, where the client sent one.
    :param checksum_type: ``FULL_OBJECT``, or ``COMPOSITE`` for a checksum over the parts' checksums.
    """

    content_type: str = "binary/octet-stream"
    metadata: Mapping[str, str] = field(default_factory=dict)
    headers: Mapping[str, str] = field(default_factory=dict)
    checksum: tuple[str, str] | None = None
    checksum_type: str = "FULL_OBJECT"

    def dump(self) -> str:
        """This, as JSON."""
        return json.dumps(asdict(self))

    @classmethod
    def load(cls, text: str) -> About:
        """What :meth:`dump` made."""
        data = json.loads(text)
        data["checksum"] = tuple(data["checksum"]) if data["checksum"] else None
        return cls(**data)


@dataclass(frozen=True)
class ObjectInfo:
    """An object as a listing shows it. ``size`` in bytes, ``etag`` without quotes, ``modified`` in epoch seconds."""

    key: str
    size: int
    etag: str
    modified: float = 0.0


@dataclass(frozen=True)
class ObjectMeta(ObjectInfo):
    """An object as a read shows it."""

    about: About = field(default_factory=About)


class Blob:
    """Bytes on their way into the store. Written by one thread at a time, then given to the store or dropped.

    :param path: the file, which must not exist yet.
    :param algorithm: a checksum to compute besides MD5 and SHA-256.

    ``kept`` says that the index names it.
    """

    def __init__(self, path: Path, algorithm: str | None = None) -> None:
        path.parent.mkdir(exist_ok=True)
        self.path = path
        self.size = 0
        self.kept = False
        self.md5 = hashlib.md5(usedforsecurity=False)
        self.sha256 = hashlib.sha256()
        self.checksum = Checksum(algorithm) if algorithm else None
        self._file = path.open("xb")

    def write(self, data: bytes) -> None:
        """Append ``data``."""
        self.size += len(data)
        self.md5.update(data)
        self.sha256.update(data)
        if self.checksum:
            self.checksum.update(data)
        self._file.write(data)

    def copy(self, source: BinaryIO) -> None:
        """Append all that ``source`` still holds, a chunk at a time."""
        while data := source.read(CHUNK):
            self.write(data)

    def close(self) -> None:
        """Make the bytes durable."""
        if self._file.closed:
            return
        self._file.flush()
        if self.size:
            os.fsync(self._file.fileno())
        self._file.close()

    def drop(self) -> None:
        """Forget the bytes."""
        self._file.close()
        self.path.unlink(missing_ok=True)


Condition = Callable[[ObjectMeta | None], None]
"""Called with the object that is there now, or None, just before it is replaced; raises to refuse."""


class ObjectStore:
    """Buckets and objects below one directory. Thread-safe; one process at a time.

    :param root: directory, made when missing.
    """

    def __init__(self, root: Path) -> None:
        self._blobs = root / "blobs"
        self._blobs.mkdir(parents=True, exist_ok=True)
        self.lock = threading.RLock()
        self.database = sqlite3.connect(root / "index.sqlite", check_same_thread=False, isolation_level=None)
        self.database.execute("PRAGMA journal_mode=WAL")
        self.database.execute("PRAGMA synchronous=FULL")
        self.database.executescript(_SCHEMA)
        self._sweep()

    def _sweep(self) -> None:
        known = {row[0] for row in self.database.execute("SELECT blob FROM objects UNION ALL SELECT blob FROM parts")}
        for path in self._blobs.glob("*/*"):
            if path.name not in known:
                path.unlink()

    @contextmanager
    def transaction(self) -> Iterator[sqlite3.Connection]:
        """The index, alone, in one transaction that an exception rolls back."""
        with self.lock:
            self.database.execute("BEGIN IMMEDIATE")
            try:
                yield self.database
            except BaseException:
                self.database.execute("ROLLBACK")
                raise
            self.database.execute("COMMIT")

    def close(self) -> None:
        """Close the index. The store cannot be used afterwards."""
        with self.lock:
            self.database.close()

    # Buckets

    def create_bucket(self, bucket: str) -> bool:
        """Make a bucket; False where it exists already."""
        with self.transaction() as db:
            made = db.execute("INSERT OR IGNORE INTO buckets VALUES (?, ?)", (bucket, time.time()))
            return made.rowcount == 1

    def buckets(self) -> list[tuple[str, float]]:
        """All buckets: name and time of creation (epoch seconds), by name."""
        with self.lock:
            return self.database.execute("SELECT name, created FROM buckets ORDER BY name").fetchall()

    def require_bucket(self, bucket: str) -> None:
        """:raises ApiError: NoSuchBucket."""
        with self.lock:
            if not self.database.execute("SELECT 1 FROM buckets WHERE name = ?", (bucket,)).fetchone():
                raise api_error("s3.no_bucket", {"BucketName": bucket})

    def delete_bucket(self, bucket: str) -> None:
        """Remove an empty bucket.

        :raises ApiError: NoSuchBucket, BucketNotEmpty.
        """
        with self.transaction() as db:
            self.require_bucket(bucket)
            if db.execute("SELECT 1 FROM objects WHERE bucket = ? LIMIT 1", (bucket,)).fetchone():
                raise api_error("s3.bucket_not_empty", {"BucketName": bucket})
            db.execute("DELETE FROM buckets WHERE name = ?", (bucket,))

    # Objects

    def head(self, bucket: str, key: str) -> ObjectMeta:
        """What is known of an object.

        :raises ApiError: NoSuchBucket, NoSuchKey.
        """
        with self.lock:
            return self._row(bucket, key)[0]

    def open_read(self, bucket: str, key: str) -> tuple[BinaryIO, ObjectMeta]:
        """An object's bytes, open for reading (the caller closes), and what is known of it.

        The file goes on holding this object when another takes its key.

        :raises ApiError: NoSuchBucket, NoSuchKey.
        """
        with self.lock:
            meta, blob = self._row(bucket, key)
            return self.blob_path(blob).open("rb"), meta

    def exists(self, bucket: str, key: str) -> bool:
        """Whether the bucket holds that key. False too where there is no such bucket."""
        with self.lock:
            return self._find(bucket, key) is not None

    def write(self, bucket: str, key: str, source: BinaryIO, metadata: Mapping[str, str] | None = None) -> str:
        """Store all of ``source`` under the key, and return its ETag (MD5 in hex).

        :param metadata: user metadata.
        :raises ApiError: NoSuchBucket.
        """
        with self.incoming() as blob:
            blob.copy(source)
            return self.commit(bucket, key, blob, About(metadata=dict(metadata or {}))).etag

    def list(self, bucket: str, prefix: str = "", after: str = "") -> Iterator[ObjectInfo]:
        """The objects whose keys start with ``prefix``, in the order of their keys' UTF-8 bytes.

        :param after: leave out this key and all before it.
        :raises ApiError: NoSuchBucket.
        """
        self.require_bucket(bucket)
        return self._list(bucket, prefix, after)

    def _list(self, bucket: str, prefix: str, after: str) -> Iterator[ObjectInfo]:
        query = """SELECT key, size, etag, modified FROM objects
          WHERE bucket = ? AND key >= ? AND key > ? ORDER BY key LIMIT 1000"""
        while True:
            with self.lock:
                rows = self.database.execute(query, (bucket, prefix, after)).fetchall()
            for row in rows:
                if not row[0].startswith(prefix):
                    return
                yield ObjectInfo(*row)
            if len(rows) < 1000:
                return
            after = rows[-1][0]

    def delete(self, bucket: str, key: str) -> None:
        """Remove an object; nothing happens where it does not exist.

        :raises ApiError: NoSuchBucket.
        """
        with self.transaction() as db:
            self.require_bucket(bucket)
            found = self._find(bucket, key)
            db.execute("DELETE FROM objects WHERE bucket = ? AND key = ?", (bucket, key))
        if found:
            self.blob_path(found[1]).unlink(missing_ok=True)

    # Writing in steps

    @contextmanager
    def incoming(self, algorithm: str | None = None) -> Iterator[Blob]:
        """A new blob; dropped at the end of the ``with`` block unless committed in it."""
        blob = Blob(self.blob_path(uuid.uuid4().hex), algorithm)
        try:
            yield blob
        finally:
            if not blob.kept:
                blob.drop()

    def commit(
        self, bucket: str, key: str, blob: Blob, about: About, *, etag: str = "", condition: Condition | None = None
    ) -> ObjectMeta:
        """Put a complete blob under a key, in one step.

        :param etag: ETag other than the MD5 of the bytes.
        :param condition: called with what is there now; raises to refuse.
        :raises ApiError: NoSuchBucket, or what ``condition`` raises.
        """
        blob.close()
        meta = ObjectMeta(key, blob.size, etag or blob.md5.hexdigest(), time.time(), about)
        with self.transaction() as db:
            self.require_bucket(bucket)
            old = self._find(bucket, key)
            if condition:
                condition(old[0] if old else None)
            row = (bucket, key, blob.path.name, meta.size, meta.etag, meta.modified, about.dump())
            db.execute("INSERT OR REPLACE INTO objects VALUES (?, ?, ?, ?, ?, ?, ?)", row)
        blob.kept = True
        if old:
            self.blob_path(old[1]).unlink(missing_ok=True)
        return meta

    def blob_path(self, name: str) -> Path:
        """The file of a blob."""
        return self._blobs / name[:2] / name

    def _find(self, bucket: str, key: str) -> tuple[ObjectMeta, str] | None:
        query = "SELECT size, etag, modified, about, blob FROM objects WHERE bucket = ? AND key = ?"
        row = self.database.execute(query, (bucket, key)).fetchone()
        return (ObjectMeta(key, row[0], row[1], row[2], About.load(row[3])), row[4]) if row else None

    def _row(self, bucket: str, key: str) -> tuple[ObjectMeta, str]:
        self.require_bucket(bucket)
        found = self._find(bucket, key)
        if not found:
            raise api_error("s3.no_key", {"Key": key})
        return found
