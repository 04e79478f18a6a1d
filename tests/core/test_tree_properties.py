"""Whatever a tree holds: what is accepted unpacks to distinct files inside its directory, on any file system."""

from __future__ import annotations

import io
import tarfile
import unicodedata
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from airflow_sm_git.core.errors import UnsafeTree
from airflow_sm_git.core.git_tree import parse_tree
from airflow_sm_git.core.package import Entry, write_package
from tests.hostile import DIRECTORY, EXECUTABLE, FILE, LINK, SUBMODULE, encoded

PARTS = st.sampled_from(["a", "b", "A", "src", "é", "e\u0301", "..", ".", ".git", "git~1", "x.py", "a\\b", "c" * 120])
PATHS = st.lists(PARTS, min_size=1, max_size=3).map("/".join)
TARGETS = st.one_of(PATHS, PATHS.map(lambda path: f"../{path}"), st.just("/etc/passwd"), st.just("x.py"))
ENTRIES = st.lists(st.tuples(PATHS, st.one_of(st.none(), st.none(), st.none(), TARGETS)), min_size=1, max_size=4)


def test_what_is_accepted_unpacks_safely_everywhere(tmp_path: Path) -> None:
    seen: Counter[str] = Counter()

    @settings(max_examples=400, deadline=None, database=None, suppress_health_check=list(HealthCheck))
    @given(ENTRIES)
    def hold(entries: list[tuple[str, str | None]]) -> None:
        out = io.BytesIO()
        made = []
        for path, target in entries:
            content = (target or "x").encode()
            made.append(Entry(path, len(content), lambda c=content: [c], kind="symlink" if target else "file"))
        try:
            write_package(made, out)
        except UnsafeTree:
            seen["refused"] += 1
            return
        seen["accepted"] += 1
        folder = tmp_path / str(seen["accepted"])
        folder.mkdir()
        with tarfile.open(fileobj=io.BytesIO(out.getvalue())) as archive:
            names = archive.getnames()
            archive.extractall(folder, filter="data")
        assert sorted(names) == sorted(path for path, _ in entries)
        folded = {unicodedata.normalize("NFC", unicodedata.normalize("NFC", name).casefold()) for name in names}
        assert len(folded) == len(names), "two would be one elsewhere"
        for name in names:
            assert (folder / name).resolve().is_relative_to(folder.resolve())
        assert not any(part.casefold() in {".git", "git~1"} for name in names for part in name.split("/"))

    hold()
    assert min(seen["accepted"], seen["refused"]) > 0.1 * seen.total(), seen


MODES = st.sampled_from([FILE, EXECUTABLE, LINK, DIRECTORY, SUBMODULE, b"100664", b"60000", b"20000", b"0"])
NAMES = st.binary(min_size=0, max_size=6).map(lambda name: name.replace(b"\0", b"") or b"n")
LINES = st.lists(st.tuples(MODES, NAMES, st.binary(min_size=20, max_size=20).map(bytes.hex)), max_size=3)


def test_a_tree_is_read_as_it_was_written_or_refused() -> None:
    seen: Counter[str] = Counter()

    @settings(max_examples=500, deadline=None, database=None)
    @given(LINES)
    def hold(lines: list[tuple[bytes, bytes, str]]) -> None:
        odd = any(mode in {b"60000", b"20000", b"0"} or b"/" in name for mode, name, _ in lines)
        try:
            read = parse_tree(encoded(lines))
        except UnsafeTree:
            seen["refused"] += 1
            assert odd
            return
        seen["accepted"] += 1
        assert not odd
        assert [(name.encode("utf-8", "surrogateescape"), oid) for _, name, oid in read] == [line[1:] for line in lines]
        assert [mode for mode, _, _ in read] == [(FILE if m == b"100664" else m).decode() for m, _, _ in lines]

    hold()
    assert min(seen["accepted"], seen["refused"]) > 0.1 * seen.total(), seen


@pytest.mark.parametrize(
    "content", [b"100644", b"100644 a", b"100644 a\0", b"100644 a\0" + b"1" * 19, b" a\0" + b"1" * 20]
)
def test_a_tree_that_is_cut_off_is_refused(content: bytes) -> None:
    with pytest.raises(UnsafeTree, match="malformed"):
        parse_tree(content)
