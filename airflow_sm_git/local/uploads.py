"""Multipart uploads in progress, in the object store's index.

Source: Amazon S3 User Guide, "Uploading and copying objects using multipart upload"; limits from "multipart upload
limits" there.
"""

from __future__ import annotations

import hashlib
import time
import uuid
from collections.abc import Sequence
from dataclasses import dataclass, replace

from airflow_sm_git.local.checksums import composite
from airflow_sm_git.local.errors import api_error
from airflow_sm_git.local.objects import About, Blob, Condition, ObjectMeta, ObjectStore

MIN_PART = 5 << 20


@dataclass(frozen=True)
class Upload:
    """An upload that is neither complete nor aborted."""

    id: str
    key: str
    created: float
    about: About


@dataclass(frozen=True)
class Part:
    """A part that has arrived. ``checksum`` is base64, where the client sent one."""

    number: int
    blob: str
    size: int
    etag: str
    modified: float
    checksum: str | None


class Uploads:
    """The multipart side of an :class:`ObjectStore`."""

    def __init__(self, store: ObjectStore) -> None:
        self._store = store

    def create(self, bucket: str, key: str, about: About) -> str:
        """Begin an upload and return its id.

        :raises ApiError: NoSuchBucket.
        """
        number = uuid.uuid4().hex
        with self._store.transaction() as db:
            self._store.require_bucket(bucket)
            db.execute("INSERT INTO uploads VALUES (?, ?, ?, ?, ?)", (number, bucket, key, time.time(), about.dump()))
        return number

    def get(self, bucket: str, key: str, upload: str) -> Upload:
        """An upload.

        :raises ApiError: NoSuchUpload.
        """
        query = "SELECT id, key, created, about FROM uploads WHERE id = ? AND bucket = ? AND key = ?"
        with self._store.lock:
            row = self._store.database.execute(query, (upload, bucket, key)).fetchone()
        if not row:
            raise api_error("s3.no_upload", {"UploadId": upload})
        return Upload(row[0], row[1], row[2], About.load(row[3]))

    def all(self, bucket: str, prefix: str) -> list[Upload]:
        """The uploads of a bucket whose keys start with ``prefix``, by key and time."""
        query = "SELECT id, key, created, about FROM uploads WHERE bucket = ? ORDER BY key, created"
        with self._store.lock:
            rows = self._store.database.execute(query, (bucket,)).fetchall()
        return [Upload(row[0], row[1], row[2], About.load(row[3])) for row in rows if row[1].startswith(prefix)]

    def add_part(self, bucket: str, key: str, upload: str, number: int, blob: Blob, checksum: str | None) -> None:
        """Keep a complete blob as a part, in place of an earlier one of that number.

        :raises ApiError: NoSuchUpload.
        """
        blob.close()
        with self._store.transaction() as db:
            self.get(bucket, key, upload)
            old = db.execute("SELECT blob FROM parts WHERE upload = ? AND number = ?", (upload, number)).fetchone()
            row = (upload, number, blob.path.name, blob.size, blob.md5.hexdigest(), time.time(), checksum)
            db.execute("INSERT OR REPLACE INTO parts VALUES (?, ?, ?, ?, ?, ?, ?)", row)
        blob.kept = True
        if old:
            self._store.blob_path(old[0]).unlink(missing_ok=True)

    def parts(self, upload: str) -> list[Part]:
        """The parts that have arrived, in order."""
        query = "SELECT number, blob, size, etag, modified, checksum FROM parts WHERE upload = ? ORDER BY number"
        with self._store.lock:
            return [Part(*row) for row in self._store.database.execute(query, (upload,))]

    def complete(
        self, bucket: str, key: str, upload: str, chosen: Sequence[tuple[int, str]], condition: Condition | None = None
    ) -> ObjectMeta:
        """Make one object of the chosen parts.

        :param chosen: number and ETag (without quotes) of each part.
        :param condition: as for :meth:`ObjectStore.commit`.
        :raises ApiError: NoSuchUpload, InvalidPart, InvalidPartOrder, EntityTooSmall.
        """
        about = self.get(bucket, key, upload).about
        parts = self._choose(upload, chosen)
        algorithm = about.checksum[0] if about.checksum else None
        with self._store.incoming(algorithm) as blob:
            for part in parts:
                with self._store.blob_path(part.blob).open("rb") as file:
                    blob.copy(file)
            if algorithm and about.checksum_type == "COMPOSITE":
                about = replace(about, checksum=(algorithm, composite(algorithm, [p.checksum or "" for p in parts])))
            elif algorithm and blob.checksum:
                about = replace(about, checksum=(algorithm, blob.checksum.value()))
            digests = b"".join(bytes.fromhex(part.etag) for part in parts)
            etag = f"{hashlib.md5(digests, usedforsecurity=False).hexdigest()}-{len(parts)}"
            meta = self._store.commit(bucket, key, blob, about, etag=etag, condition=condition)
        self._forget(upload)
        return meta

    def abort(self, bucket: str, key: str, upload: str) -> None:
        """Drop an upload and its parts.

        :raises ApiError: NoSuchUpload.
        """
        self.get(bucket, key, upload)
        self._forget(upload)

    def _forget(self, upload: str) -> None:
        parts = self.parts(upload)
        with self._store.transaction() as db:
            db.execute("DELETE FROM parts WHERE upload = ?", (upload,))
            db.execute("DELETE FROM uploads WHERE id = ?", (upload,))
        for part in parts:
            self._store.blob_path(part.blob).unlink(missing_ok=True)

    def _choose(self, upload: str, chosen: Sequence[tuple[int, str]]) -> list[Part]:
        there = {part.number: part for part in self.parts(upload)}
        numbers = [number for number, _ in chosen]
        if not numbers:
            raise api_error("s3.malformed_xml")
        if any(there.get(number) is None or there[number].etag != etag for number, etag in chosen):
            raise api_error("s3.invalid_part")
        if numbers != sorted(set(numbers)):
            raise api_error("s3.part_order")
        parts = [there[number] for number in numbers]
        if any(part.size < MIN_PART for part in parts[:-1]):
            raise api_error("s3.part_small")
        return parts
