from __future__ import annotations

import gzip
import hashlib
import io
import os
import shutil
import subprocess
import sys
import tarfile
from collections.abc import Iterable
from pathlib import Path

import pytest
from zlib_ng import zlib_ng

from airflow_sm_git.core.errors import UnsafeTree
from airflow_sm_git.core.package import MTIME, Digest, Entry, write_package
from tests.core.fixed_package import DIGEST, fixed, one

ROOT = Path(__file__).parents[2]


def packed(entries: Iterable[Entry]) -> tuple[Digest, bytes]:
    out = io.BytesIO()
    return write_package(entries, out), out.getvalue()


def pythons() -> list[str]:
    """Interpreters of this machine that the project supports, this one first."""
    found = {Path(sys.executable).resolve(): sys.executable}
    homes = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv")).glob("versions/3.1[1-9]*/bin/python")
    for candidate in [*(shutil.which(f"python3.{minor}") for minor in range(11, 20)), *map(str, homes)]:
        if candidate and "shims" not in candidate:  # pyenv's scripts that may name no Python at all
            found.setdefault(Path(candidate).resolve(), candidate)
    return list(found.values())


@pytest.mark.parametrize("python", pythons())
def test_the_digest_of_fixed_entries_is_the_same_on_every_python(python: str) -> None:
    environment = {"PYTHONPATH": str(ROOT), "PYTHONDONTWRITEBYTECODE": "1"}
    command = [python, "-m", "tests.core.fixed_package"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.stdout.strip() == DIGEST, done.stderr


def test_another_zlib_compresses_differently_and_changes_no_digest() -> None:
    usual = io.BytesIO()
    other = io.BytesIO()
    digest = write_package(fixed(), usual)
    other_digest = write_package(
        fixed(),
        other,
        compressor=lambda: zlib_ng.compressobj(1, zlib_ng.DEFLATED, -15),
    )
    assert usual.getvalue() != other.getvalue()
    assert gzip.decompress(usual.getvalue()) == gzip.decompress(other.getvalue())
    assert digest.sha256 == other_digest.sha256 == DIGEST


def test_the_digest_is_that_of_the_uncompressed_tar_and_the_size_that_of_the_archive() -> None:
    digest, archive = packed(fixed())
    assert digest.sha256 == hashlib.sha256(gzip.decompress(archive)).hexdigest()
    assert digest.size == len(archive)
    assert digest.file_count == 8


def test_the_order_of_entries_does_not_matter() -> None:
    entries = fixed()
    assert packed(entries) == packed(reversed(entries))


def test_tarfile_and_tar_read_back_what_was_written(tmp_path: Path) -> None:
    entries = {entry.path: entry for entry in fixed()}
    _, archive = packed(entries.values())
    with tarfile.open(fileobj=io.BytesIO(archive)) as tar:
        members = {member.name: member for member in tar.getmembers()}
        assert members.keys() == entries.keys()
        for path, member in members.items():
            content = b"".join(entries[path].read())
            if member.issym():
                assert member.linkname.encode() == content
            else:
                assert tar.extractfile(member).read() == content  # type: ignore[union-attr]
                assert member.mode == (0o755 if path == "train.py" else 0o644)
            assert (member.uid, member.gid, member.uname, member.gname, member.mtime) == (0, 0, "", "", MTIME)
    (tmp_path / "a.tar.gz").write_bytes(archive)
    subprocess.run(["tar", "xzf", "a.tar.gz"], cwd=tmp_path, check=True)
    for path, entry in entries.items():
        if entry.kind == "file":
            assert (tmp_path / path).read_bytes() == b"".join(entry.read())
    assert (tmp_path / "links/far").read_bytes() == b"x" * 511


def test_the_gzip_header_says_nothing_of_name_time_or_machine() -> None:
    _, archive = packed([one("a", b"")])
    assert archive[:10] == b"\x1f\x8b\x08\0\0\0\0\0\0\xff"


def test_no_time_is_before_what_zip_files_can_hold() -> None:
    assert MTIME > 315_532_800 + 14 * 3600


def test_contents_are_streamed() -> None:
    taken: list[int] = []
    out = io.BytesIO()

    def read() -> Iterable[bytes]:
        for number in range(64):
            taken.append(out.tell())
            yield os.urandom(1 << 16) if number else bytes(1 << 16)

    write_package([Entry("big", 64 << 16, read)], out)
    assert taken[-1] > 60 << 16  # what came before was written before the last chunk was asked for


def test_a_size_beyond_octal_digits_goes_into_a_pax_header() -> None:
    class Plain:
        def compress(self, data: bytes, /) -> bytes:
            return data

        def flush(self) -> bytes:
            return b""

    out = io.BytesIO()
    with pytest.raises(UnsafeTree, match="instead of the 8589934592"):
        write_package([Entry("huge", 8 << 30, lambda: [bytes(4096)])], out, compressor=Plain)
    with tarfile.open(fileobj=io.BytesIO(out.getvalue()[10:])) as tar:
        member = tar.next()
    assert member is not None and member.size == 8 << 30


def test_an_lfs_pointer_is_refused_by_name() -> None:
    pointer = b"version https://git-lfs.github.com/spec/v1\noid sha256:" + b"0" * 64 + b"\nsize 12345\n"
    with pytest.raises(UnsafeTree, match=r"'model\.bin' is a Git LFS pointer"):
        packed([one("model.bin", pointer)])
    assert packed([one("about-lfs.md", b"Files begin with: " + pointer)])


@pytest.mark.parametrize("target", [b"/etc/passwd", b"../../x", b"", b"a\0b", b"\xff", b"a" * 5000])
def test_links_that_cannot_be_packaged_are_refused(target: bytes) -> None:
    with pytest.raises(UnsafeTree, match="'d/link'"):
        packed([one("d/link", target, kind="symlink")])


def test_dot_git_never_enters() -> None:
    with pytest.raises(UnsafeTree, match="disguise"):
        packed([one("src/.GIT/config", b"")])


def test_a_content_of_another_length_than_announced_is_refused() -> None:
    with pytest.raises(UnsafeTree, match="3 bytes instead of the 5"):
        packed([Entry("a", 5, lambda: [b"abc"])])
