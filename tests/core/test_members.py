"""Two archives are the same where unpacking them gives the same."""

from __future__ import annotations

import io
import tarfile

import pytest

from airflow_sm_git.core.members import BROKEN, first_difference, members, parted, tar_digest
from airflow_sm_git.core.package import write_package
from tests.core.fixed_package import DIGEST, fixed


def archive(*entries: tuple[str, bytes, str, int], mode: str = "w:gz") -> io.BytesIO:
    """A tar of name, type, content or link's target, and mode."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode=mode) as tar:  # type: ignore[call-overload]
        for name, kind, text, permissions in entries:
            member = tarfile.TarInfo(name)
            member.type, member.mode = kind, permissions
            if kind == tarfile.REGTYPE:
                member.size = len(text)
                tar.addfile(member, io.BytesIO(text.encode()))
            else:
                member.linkname = text
                tar.addfile(member)
    return out


FILE, LINK, HARD, FOLDER = tarfile.REGTYPE, tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.DIRTYPE


def test_the_digest_of_a_package_is_the_one_that_it_was_written_with() -> None:
    out = io.BytesIO()
    assert write_package(fixed(), out).sha256 == tar_digest(out) == DIGEST


@pytest.mark.parametrize("mode", ["w", "w:gz", "w:bz2"])
def test_names_are_normalised_folders_left_out_and_the_last_of_a_name_counts(mode: str) -> None:
    first = archive(("./d", FOLDER, "", 0o755), ("./d/../a", FILE, "old", 0o644), ("a", FILE, "1", 0o644), mode=mode)
    assert members(first) == members(archive(("a", FILE, "1", 0o644)))
    assert list(members(archive(("/a", FILE, "1", 0o644)))) == ["a"]


@pytest.mark.parametrize(
    "other",
    [
        ("a", FILE, "2", 0o644),
        ("a", FILE, "1", 0o755),
        ("a", LINK, "1", 0o644),
        ("a", HARD, "1", 0o644),
        ("a", FILE, "11", 0o644),
    ],
)
def test_another_content_mode_or_kind_is_another_member(other: tuple[str, bytes, str, int]) -> None:
    found, expected = members(archive(other)), members(archive(("a", FILE, "1", 0o644)))
    assert first_difference(found, expected) == "'a' is another"


def test_the_first_difference_is_named_in_the_order_of_the_paths() -> None:
    assert first_difference({"a": "1", "c": "1"}, {"a": "1", "b": "1", "c": "2"}) == "'b' is missing"
    assert first_difference({"a": "1", "b": "1"}, {"a": "1"}) == "'b' is one too many"
    assert first_difference({"a": "1"}, {"a": "1"}) is None


def test_a_folder_is_parted_from_the_rest_and_something_else_of_its_name_belongs_to_it() -> None:
    found = {"code": "link", "code/a/b": "1", "codex": "2", "a/code/b": "3"}
    assert parted(found, "code") == ({"code": "link", "a/b": "1"}, {"codex": "2", "a/code/b": "3"})


@pytest.mark.parametrize(
    "data",
    [b"", b"text", b"\x1f\x8b\x08", archive(("a", FILE, "1" * 999, 0o644)).getvalue()[:-20]],
    ids=["empty", "text", "head", "cut off"],
)
def test_what_is_no_whole_archive_raises_what_the_module_names(data: bytes) -> None:
    with pytest.raises(BROKEN):
        members(io.BytesIO(data))
