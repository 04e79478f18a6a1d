"""The object store as training jobs use it, and what is left of it when a write does not end."""

from __future__ import annotations

import io
from collections.abc import Iterator
from pathlib import Path

import pytest

from airflow_sm_git.local.errors import ApiError
from airflow_sm_git.local.objects import ObjectStore


@pytest.fixture
def store(tmp_path: Path) -> Iterator[ObjectStore]:
    store = ObjectStore(tmp_path / "s3")
    store.create_bucket("b")
    yield store
    store.close()


def blobs(tmp_path: Path) -> list[bytes]:
    return [path.read_bytes() for path in (tmp_path / "s3" / "blobs").glob("*/*")]


def test_what_is_written_is_read_listed_and_found(store: ObjectStore) -> None:
    etag = store.write("b", "a/1", io.BytesIO(b"one"), {"digest": "x"})
    file, meta = store.open_read("b", "a/1")
    with file:
        assert file.read() == b"one"
    assert (meta.etag, meta.size, dict(meta.about.metadata)) == (etag, 3, {"digest": "x"})
    assert [(info.key, info.size, info.etag) for info in store.list("b", "a/")] == [("a/1", 3, etag)]
    assert store.exists("b", "a/1") and not store.exists("b", "a") and not store.exists("other", "a/1")


def test_a_reader_keeps_the_object_it_opened(store: ObjectStore, tmp_path: Path) -> None:
    store.write("b", "k", io.BytesIO(b"old"))
    file, _ = store.open_read("b", "k")
    store.write("b", "k", io.BytesIO(b"new"))
    with file:
        assert file.read() == b"old"
    assert blobs(tmp_path) == [b"new"]


def test_a_source_that_fails_leaves_the_old_object_and_nothing_else(store: ObjectStore, tmp_path: Path) -> None:
    class Broken(io.BytesIO):
        def read(self, size: int | None = -1) -> bytes:
            if self.tell():
                raise OSError("gone")
            return super().read(3)

    store.write("b", "k", io.BytesIO(b"old"))
    with pytest.raises(OSError, match="gone"):
        store.write("b", "k", Broken(b"newer"))
    assert blobs(tmp_path) == [b"old"]


def test_a_write_to_a_missing_bucket_leaves_nothing(store: ObjectStore, tmp_path: Path) -> None:
    with pytest.raises(ApiError, match="NoSuchBucket"):
        store.write("missing", "k", io.BytesIO(b"x"))
    assert blobs(tmp_path) == []


def test_blobs_that_no_object_names_are_swept_at_the_next_start(store: ObjectStore, tmp_path: Path) -> None:
    store.write("b", "k", io.BytesIO(b"kept"))
    orphan = tmp_path / "s3" / "blobs" / "ab" / "abc"
    orphan.parent.mkdir(exist_ok=True)
    orphan.write_bytes(b"half a wri")
    ObjectStore(tmp_path / "s3").close()
    assert blobs(tmp_path) == [b"kept"]


def test_a_long_listing_is_complete_and_in_the_order_of_bytes(store: ObjectStore) -> None:
    keys = [f"k/{number:04}" for number in range(1500)] + ["k/ä", "k/😀", "k/\uffff"]
    with store.transaction() as index:
        rows = [("b", key, "none", 0, "e", 0.0, "{}") for key in keys]
        index.executemany("INSERT INTO objects VALUES (?, ?, ?, ?, ?, ?, ?)", rows)
    listed = [info.key for info in store.list("b", "k/")]
    assert listed == sorted(keys, key=str.encode)
