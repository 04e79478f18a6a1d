"""Trees that an attacker wrote by hand: refused by a name that the user can find, or packaged safely."""

from __future__ import annotations

import io
import tarfile
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from airflow_sm_git.clients.git import GitClient
from airflow_sm_git.core.errors import SmGitError, UnsafeTree
from airflow_sm_git.core.limits import Limits
from tests.git_server import Repository
from tests.hostile import DIRECTORY, FILE, LINK, SUBMODULE, Forge, Line


@pytest.fixture
def repository(tmp_path: Path) -> Repository:
    return Repository(tmp_path / "repository")


@pytest.fixture
def forge(repository: Repository) -> Forge:
    return Forge(repository)


def packaged(repository: Repository, commit: str, folder: Path, limits: Limits = Limits()) -> dict[str, str]:  # noqa: B008
    """Package the whole commit, unpack it, and return what lies there: ``file``, or a link's target, by path."""
    out = io.BytesIO()
    client = GitClient(folder / "cache", allowed_schemes=["file"], limits=limits)
    try:
        client.package(repository.url, commit, source_dir=".", entry_point="train.py", out=out)
    except SmGitError:
        with pytest.raises((EOFError, tarfile.ReadError)):
            tarfile.open(fileobj=io.BytesIO(out.getvalue())).getmembers()  # noqa: SIM115  what was written is no package
        raise
    with tarfile.open(fileobj=io.BytesIO(out.getvalue())) as archive:
        archive.extractall(folder / "unpacked", filter="data")
        return {member.name: member.linkname or "file" for member in archive}


DISGUISES = {
    "plain": b".git",
    "upper": b".GIT",
    "mixed": b".gIt",
    "blank": b".git ",
    "dot": b".git.",
    "dots and blanks": b".git . .",
    "short name": b"git~1",
    "upper short name": b"GIT~1",
    "ignored by HFS+": ".g\u200cit".encode(),
    "byte order mark": "\ufeff.git".encode(),
    "fullwidth": "\uff0egit".encode(),
    "stream": b".git::$INDEX_ALLOCATION",
    "backslash": b"a\\.git\\config",
}
LEAVING = {"up": b"..", "here": b".", "backslash": b"..\\x", "inner backslash": b"a\\..\\..\\x"}


@pytest.mark.parametrize("kind", ["file", "directory"])
@pytest.mark.parametrize("name", DISGUISES)
def test_git_is_known_in_any_disguise(
    repository: Repository, forge: Forge, tmp_path: Path, name: str, kind: str
) -> None:
    blob = forge.blob()
    below = forge.tree((FILE, b"config", blob))
    inner = (FILE, DISGUISES[name], blob) if kind == "file" else (DIRECTORY, DISGUISES[name], below)
    commit = forge.commit(forge.tree((FILE, b"train.py", blob), (DIRECTORY, b"sub", forge.tree(inner))))
    with pytest.raises(UnsafeTree, match=r"'sub/.*is '\.git' in disguise"):
        packaged(repository, commit, tmp_path)


@pytest.mark.parametrize("name", LEAVING)
def test_no_name_leads_out_of_the_package(repository: Repository, forge: Forge, tmp_path: Path, name: str) -> None:
    blob = forge.blob()
    commit = forge.commit(forge.tree((FILE, b"train.py", blob), (FILE, LEAVING[name], blob)))
    with pytest.raises(UnsafeTree, match="may leave the package"):
        packaged(repository, commit, tmp_path)


@pytest.mark.parametrize("name", [b"a/b", b"/etc/passwd", b"../../x"])
def test_a_name_with_a_slash_is_no_name(repository: Repository, forge: Forge, tmp_path: Path, name: bytes) -> None:
    blob = forge.blob()
    commit = forge.commit(forge.tree((FILE, b"train.py", blob), (FILE, name, blob)))
    with pytest.raises(UnsafeTree, match="holds the name"):
        packaged(repository, commit, tmp_path)


@pytest.mark.parametrize(
    "mode", [b"60000", b"20000", b"10000", b"140000", b"777777", b"0", b"abc", b"100888", b"40755"]
)
def test_what_is_neither_file_nor_link_is_refused(
    repository: Repository, forge: Forge, tmp_path: Path, mode: bytes
) -> None:
    blob = forge.blob()
    commit = forge.commit(forge.tree((FILE, b"train.py", blob), (mode, b"dev", blob)))
    with pytest.raises(SmGitError):
        packaged(repository, commit, tmp_path)


@pytest.mark.parametrize(("mode", "kept"), [(b"100664", 0o644), (b"100600", 0o644), (b"100775", 0o755)])
def test_modes_of_old_gits_are_those_of_files(
    repository: Repository, forge: Forge, tmp_path: Path, mode: bytes, kept: int
) -> None:
    commit = forge.commit(forge.tree((mode, b"train.py", forge.blob())))
    packaged(repository, commit, tmp_path)
    assert (tmp_path / "unpacked" / "train.py").stat().st_mode & 0o777 == kept


def links(forge: Forge, **targets: bytes) -> list[Line]:
    return [(LINK, name.encode(), forge.blob(target)) for name, target in targets.items()]


@pytest.mark.parametrize(
    "targets",
    [
        {"a": b"/etc/passwd"},
        {"a": b"../outside"},
        {"a": b"b", "b": b"a"},
        {"a": b"."},
        {"a": b"b", "b": b"../x"},
        {"a": b"sub/../../x"},
    ],
)
def test_links_that_leave_or_never_end_are_refused(
    repository: Repository, forge: Forge, tmp_path: Path, targets: dict[str, bytes]
) -> None:
    lines = [(FILE, b"train.py", forge.blob()), *links(forge, **targets)]
    if targets == {"a": b"."}:  # the package itself is within the package
        packaged(repository, forge.commit(forge.tree(*lines)), tmp_path)
        return
    with pytest.raises(UnsafeTree, match="leaves the packaged tree, or never ends"):
        packaged(repository, forge.commit(forge.tree(*lines)), tmp_path)


def test_a_link_within_the_package_stays_one(repository: Repository, forge: Forge, tmp_path: Path) -> None:
    commit = forge.commit(forge.tree((FILE, b"train.py", forge.blob()), *links(forge, a=b"train.py", b=b"./a")))
    assert packaged(repository, commit, tmp_path) == {"train.py": "file", "a": "train.py", "b": "./a"}


CLASHES: dict[str, Callable[[Forge, str], list[Line]]] = {
    "twice": lambda forge, blob: [(FILE, b"a", blob), (FILE, b"a", forge.blob(b"other"))],
    "case": lambda forge, blob: [(FILE, b"Model.py", blob), (FILE, b"model.py", blob)],
    "case of a directory": lambda forge, blob: [
        (DIRECTORY, b"Lib", forge.tree((FILE, b"x", blob))),
        (DIRECTORY, b"lib", forge.tree((FILE, b"y", blob))),
    ],
    "normal form": lambda forge, blob: [(FILE, "\u00e9".encode(), blob), (FILE, "e\u0301".encode(), blob)],
    "below a link": lambda forge, blob: [
        (LINK, b"a", forge.blob(b"train.py")),
        (DIRECTORY, b"a", forge.tree((FILE, b"evil", blob))),
    ],
    "below a file": lambda forge, blob: [(FILE, b"a", blob), (DIRECTORY, b"a", forge.tree((FILE, b"b", blob)))],
    "not UTF-8": lambda forge, blob: [(FILE, b"\xff\xfe", blob)],
    "submodule": lambda forge, blob: [(SUBMODULE, b"sub", "1" * 40)],
    "LFS pointer": lambda forge, blob: [
        (FILE, b"big.bin", forge.blob(b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 1\n"))
    ],
    "long name": lambda forge, blob: [(FILE, b"n" * 300, blob)],
    "long path in bytes": lambda forge, blob: [(FILE, "\u00e9".encode() * 200, blob)],
}


@pytest.mark.parametrize("name", CLASHES)
def test_what_would_be_something_else_elsewhere_is_refused(
    repository: Repository, forge: Forge, tmp_path: Path, name: str
) -> None:
    blob = forge.blob()
    commit = forge.commit(forge.tree((FILE, b"train.py", blob), *CLASHES[name](forge, blob)))
    with pytest.raises(UnsafeTree):
        packaged(repository, commit, tmp_path)


def test_the_order_in_a_tree_changes_nothing(repository: Repository, forge: Forge, tmp_path: Path) -> None:
    lines = [(FILE, name, forge.blob(name)) for name in (b"train.py", b"b", b"a")]
    client = GitClient(tmp_path / "cache", allowed_schemes=["file"])
    digests = set()
    for order in (lines, sorted(lines, key=lambda line: line[1])):
        commit = forge.commit(forge.tree(*order))
        chosen = {"source_dir": ".", "entry_point": "train.py", "out": io.BytesIO()}
        digests.add(client.package(repository.url, commit, **chosen).digest)  # type: ignore[arg-type]
    assert len(digests) == 1


def test_a_tree_of_ten_thousand_million_files_is_given_up_soon(
    repository: Repository, forge: Forge, tmp_path: Path
) -> None:
    tree = forge.tree((FILE, b"train.py", forge.blob()))
    for _ in range(10):
        tree = forge.tree(*((DIRECTORY, str(number).encode(), tree) for number in range(10)))
    commit = forge.commit(tree)
    began = time.monotonic()
    with pytest.raises(UnsafeTree, match=r"more than 5000 files.*\[sm_git\] max_files"):
        packaged(repository, commit, tmp_path, Limits(max_files=5000))
    assert time.monotonic() - began < 60


def test_a_chain_of_directories_ends_at_the_longest_path(repository: Repository, forge: Forge, tmp_path: Path) -> None:
    tree = forge.tree((FILE, b"train.py", forge.blob()))
    for _ in range(3000):
        tree = forge.tree((DIRECTORY, b"a", tree))
    with pytest.raises(UnsafeTree, match="too long"):
        packaged(repository, forge.commit(tree), tmp_path)


@pytest.mark.parametrize(
    ("limits", "said"),
    [
        (Limits(max_files=3), r"more than 3 files.*\[sm_git\] max_files"),
        (Limits(max_file_size=999), r"'large\.bin' has 1000 bytes, more than 999.*\[sm_git\] max_file_size"),
        (Limits(max_package_size=1500), r"more than 1500 bytes together.*\[sm_git\] max_package_size"),
    ],
)
def test_a_limit_is_named_with_its_setting(
    repository: Repository, forge: Forge, tmp_path: Path, limits: Limits, said: str
) -> None:
    names = (b"train.py", b"a", b"b", b"large.bin")
    lines = [(FILE, name, forge.blob(b"x" * (1000 if name == b"large.bin" else 400))) for name in names]
    commit = forge.commit(forge.tree(*lines))
    with pytest.raises(UnsafeTree, match=said):
        packaged(repository, commit, tmp_path, limits)
    packaged(repository, commit, tmp_path, Limits(max_files=4, max_file_size=1000, max_package_size=2200))
