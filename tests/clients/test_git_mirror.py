from __future__ import annotations

import hashlib
import os
import random
import re
import shutil
import subprocess
import time
import zlib
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

from airflow_sm_git.clients.git import GitClient
from airflow_sm_git.clients.git_mirror import MirrorCache
from airflow_sm_git.clients.git_process import GitRunner
from airflow_sm_git.core.errors import (
    CommitGone,
    RemoteError,
)
from airflow_sm_git.core.source import Source
from tests.clients.packaging import (
    DIGEST,
    FILES,
    finished,
    fixed,
    in_another_process,
    package,
    start_another_process,
)
from tests.git_server import GitServer, Repository, git

NO_GIT = GitRunner(Path("/nowhere"), allowed_schemes=(), credentials=None, timeout=1)


def test_only_the_blobs_that_are_packaged_are_received(
    repository: Repository, server: GitServer, client: GitClient
) -> None:
    noise = random.Random(1)  # noqa: S311
    for number in range(5):
        repository.commit({f"data/{number}.bin": noise.randbytes(1 << 20)})
    commit = repository.commit(FILES)
    client.resolve(Source(server.url("models.git"), "main"))
    package(client, server.url("models.git"), commit)
    assert 0 < server.sent < 10_000
    package(client, server.url("models.git"), commit, source_dir="data", entry_point="0.bin")
    assert server.sent > 5 << 20


def test_what_was_fetched_once_needs_no_remote(repository: Repository, server: GitServer, client: GitClient) -> None:
    commit = repository.commit(FILES)
    first = package(client, server.url("models.git"), commit)
    asked = len(server.requests)
    assert package(client, server.url("models.git"), commit) == first
    assert len(server.requests) == asked


@pytest.mark.parametrize("crowd", [4, pytest.param(16, marks=pytest.mark.slow)])
def test_processes_that_start_cold_at_once_fetch_what_one_of_them_would(
    repository: Repository, server: GitServer, tmp_path: Path, crowd: int
) -> None:
    commit = fixed(repository)
    url = server.url("models.git")
    assert in_another_process(tmp_path / "alone", url, commit) == [DIGEST, ""]
    alone = server.packs
    assert alone == 2  # the commit with its trees; the blobs
    server.requests.clear()
    cache = MirrorCache(tmp_path / "c/mirrors", NO_GIT, size=0, timeout=60)
    with cache.locked(cache.mirror(url).path, exclusive=False):  # all find nothing, and wait
        started = [start_another_process(tmp_path / "c", url, commit) for _ in range(crowd)]
        lock = f"{cache.mirror(url).path}.lock"
        wait_until(lambda: all(has_open(process.pid, lock) for process in started))
        assert not server.requests
    assert [finished(process) for process in started] == [[DIGEST, ""]] * crowd
    assert server.packs == alone


def has_open(pid: int, path: str) -> bool:
    """Whether a process has a file open."""
    return any(file.path == path for file in psutil.Process(pid).open_files())


def wait_until(condition: Callable[[], bool]) -> None:
    """Wait for something that is about to happen."""
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def damage_head(mirror: Path) -> None:
    (mirror / "objects/HEAD").write_bytes(os.urandom(64))


def damage_config(mirror: Path) -> None:
    (mirror / "objects/config").write_text("[core]\n\tbare = true\n\trepositoryformatversion = 99\n")


def damage_packs(mirror: Path) -> None:
    for pack in mirror.glob("objects/objects/pack/*.pack"):
        pack.chmod(0o600)
        os.truncate(pack, pack.stat().st_size // 2)


def damage_blobs(mirror: Path) -> None:
    for pack in mirror.glob("objects/objects/pack/*.pack"):
        pack.chmod(0o600)
        content = bytearray(pack.read_bytes())
        content[20:-20] = bytes(255 - byte for byte in content[20:-20])
        pack.write_bytes(content)


def damage_indexes(mirror: Path) -> None:
    for index in mirror.glob("objects/objects/pack/*.idx"):
        index.chmod(0o600)
        index.write_bytes(b"")


def lose_packs(mirror: Path) -> None:
    for pack in mirror.glob("objects/objects/pack/*"):
        pack.unlink()


def swap_a_blob(mirror: Path) -> None:
    """Leave a blob that git reads without complaint, and whose content is not what its name says."""
    name = git("hash-object", "--stdin", stdin=FILES["src/train.py"])
    for pack in mirror.glob("objects/objects/pack/*.pack"):
        content = pack.read_bytes()
        for path in pack.parent.glob(f"{pack.stem}.*"):
            path.unlink()
        git("-C", mirror / "objects", "unpack-objects", "-q", stdin=content)
    wrong = FILES["src/train.py"].replace(b"train", b"evil!")
    loose = mirror / "objects/objects" / name[:2] / name[2:]
    loose.chmod(0o600)
    loose.write_bytes(zlib.compress(b"blob %d\0" % len(wrong) + wrong))


def leave_locks(mirror: Path) -> None:
    lose_packs(mirror)
    (mirror / "objects/shallow.lock").touch()
    (mirror / "objects/objects/pack/tmp_pack_x").touch()


def lose_the_cut(mirror: Path) -> None:
    (mirror / "objects/shallow").unlink(missing_ok=True)


def leave_temporary_files(mirror: Path) -> None:
    for name in ("shallow_x1y2z3", "objects/pack/pack-1.keep", "objects/tmp_objdir-x/pack/tmp_pack_y"):
        (mirror / "objects" / name).parent.mkdir(parents=True, exist_ok=True)
        (mirror / "objects" / name).touch()
    lose_packs(mirror)


DAMAGES = [
    damage_head,
    damage_config,
    damage_packs,
    damage_blobs,
    damage_indexes,
    swap_a_blob,
    lose_packs,
    leave_locks,
    lose_the_cut,
    leave_temporary_files,
]


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_broken_mirror_is_rebuilt(
    repository: Repository, client: GitClient, tmp_path: Path, damage: Callable[[Path], None]
) -> None:
    commit = fixed(repository)
    newer = repository.commit({"README.md": b"newer"})

    def works() -> bool:
        found = client.commits(Source(repository.url), limit=2, paths=["README.md"])
        assert [each.commit for each in found] == [commit, newer]
        return package(client, repository.url, commit)[0].digest == DIGEST

    client.resolve(Source(repository.url))
    package(client, repository.url, commit)
    (mirror,) = mirrors(tmp_path)
    damage(mirror)
    assert package(client, repository.url, commit)[0].digest == DIGEST
    assert not [path for path in mirror.rglob("*") if re.search(r"\.lock$|\.keep$|^tmp_|^shallow_", path.name)]
    assert client.resolve(Source(repository.url)).commit == newer
    damage(mirror)
    assert works()


def mirrors(tmp_path: Path) -> list[Path]:
    return [path for path in (tmp_path / "cache/mirrors").iterdir() if path.is_dir()]


def foreign_clone(place: Path, url: str) -> None:
    """Somebody's own clone, of something else, whose hooks and configuration act on whoever uses it."""
    git("clone", "-q", "--bare", url, place)
    trap = f"#!/bin/sh\ntouch {place.parents[3] / 'sprung'}\n"
    for name in ("reference-transaction", "post-checkout", "pre-auto-gc", "post-index-change"):
        (place / "hooks" / name).parent.mkdir(exist_ok=True)
        (place / "hooks" / name).write_text(trap)
        (place / "hooks" / name).chmod(0o700)
    script = place / "trap"
    script.write_text(trap)
    script.chmod(0o700)
    for key in ("core.fsmonitor", "core.sshCommand", "core.alternateRefsCommand", "uploadpack.packObjectsHook"):
        git("-C", place, "config", key, script)
    git("-C", place, "config", "remote.origin.uploadpack", script)
    git("-C", place, "config", "credential.helper", f"!{script}")


def foreign_settings(place: Path, url: str) -> None:
    """Ours to look at, but led astray by files that git reads beside the configuration."""
    foreign_clone(place / "elsewhere", url)
    (place / "commondir").write_text("elsewhere\n")


def foreign_alternates(place: Path, url: str) -> None:
    other = place.parent / "borrowed"
    foreign_clone(other, url)
    (place / "objects/info").mkdir(exist_ok=True)
    (place / "objects/info/alternates").write_text(f"{other}/objects\n")


def foreign_file(place: Path, url: str) -> None:
    shutil.rmtree(place)
    place.write_text("somebody's notes")


def foreign_link(place: Path, url: str) -> None:
    shutil.rmtree(place)
    foreign_clone(place.parent / "linked", url)
    place.symlink_to(place.parent / "linked")


@pytest.mark.parametrize(
    "move_in",
    [foreign_clone, foreign_settings, foreign_alternates, foreign_file, foreign_link],
    ids=lambda f: f.__name__,
)
def test_what_somebody_else_put_in_the_place_of_a_mirror_does_not_act(
    repository: Repository, client: GitClient, tmp_path: Path, move_in: Callable[[Path, str], None]
) -> None:
    commit = fixed(repository)
    package(client, repository.url, commit)
    other = Repository(tmp_path / "other.git")
    other.commit({"src/train.py": b"evil"})
    (mirror,) = mirrors(tmp_path)
    place = mirror / "objects"
    if move_in is foreign_clone:
        shutil.rmtree(place)
    move_in(place, other.url)
    assert package(client, repository.url, commit)[0].digest == DIGEST
    assert client.resolve(Source(repository.url)).commit == commit
    assert not (tmp_path / "sprung").exists()
    assert (place / "HEAD").read_text() == "ref: refs/heads/none\n" and not (place / "hooks").exists()
    assert not place.is_symlink() and not (place / "commondir").exists()
    assert not (place / "objects/info/alternates").exists()
    if move_in is foreign_link:
        assert (mirror / "linked/hooks").is_dir()  # the link went, not what it led to


def test_the_least_recently_used_mirror_goes_when_the_cache_is_full(repository: Repository, tmp_path: Path) -> None:
    client = GitClient(tmp_path / "cache", allowed_schemes={"file"}, cache_size=60_000)
    noise = random.Random(2)  # noqa: S311
    for name in "abc":
        other = Repository(tmp_path / f"{name}.git")
        commit = other.commit({"train.py": noise.randbytes(25_000)})
        package(client, other.url, commit, source_dir=".")
        assert len(mirrors(tmp_path)) == {"a": 1, "b": 2, "c": 2}[name]


def test_a_mirror_in_use_stays_however_long_ago_that_began(repository: Repository, tmp_path: Path) -> None:
    client = GitClient(tmp_path / "cache", allowed_schemes={"file"}, cache_size=60_000)
    noise = random.Random(3)  # noqa: S311
    commit = repository.commit({"train.py": noise.randbytes(25_000)})
    package(client, repository.url, commit, source_dir=".")
    (used,) = mirrors(tmp_path)
    cache = MirrorCache(tmp_path / "cache/mirrors", NO_GIT, size=0, timeout=60)
    with cache.locked(used, exclusive=False):
        for name in "abc":
            other = Repository(tmp_path / f"{name}.git")
            package(client, other.url, other.commit({"train.py": noise.randbytes(25_000)}), source_dir=".")
            assert used in mirrors(tmp_path) and len(mirrors(tmp_path)) == 2
    other = Repository(tmp_path / "d.git")
    package(client, other.url, other.commit({"train.py": noise.randbytes(25_000)}), source_dir=".")
    assert used not in mirrors(tmp_path) and len(mirrors(tmp_path)) == 2


def test_a_mirror_that_another_process_keeps_for_too_long_is_given_up(repository: Repository, tmp_path: Path) -> None:
    commit = fixed(repository)
    client = GitClient(tmp_path / "cache", allowed_schemes={"file"}, timeout=0.3)
    cache = MirrorCache(tmp_path / "cache/mirrors", NO_GIT, size=0, timeout=60)
    with (
        cache.locked(cache.mirror(repository.url).path, exclusive=True),
        pytest.raises(RemoteError, match=r"Another process has held the git mirror \w+ for 0\.3 s"),
    ):
        package(client, repository.url, commit)
    client = GitClient(tmp_path / "cache", allowed_schemes={"file"}, timeout=60)
    assert package(client, repository.url, commit)[0].digest == DIGEST


def test_what_was_read_last_outlives_what_was_fetched_last(tmp_path: Path) -> None:
    client = GitClient(tmp_path / "cache", allowed_schemes={"file"}, cache_size=60_000)
    noise = random.Random(4)  # noqa: S311
    repositories = [Repository(tmp_path / f"{name}.git") for name in "abc"]
    commits = [each.commit({"train.py": noise.randbytes(25_000)}) for each in repositories]
    for number in (0, 1, 0, 2):
        package(client, repositories[number].url, commits[number], source_dir=".")
        time.sleep(0.02)
    keys = {hashlib.sha256(repositories[number].url.encode()).hexdigest()[:32] for number in (0, 2)}
    assert {path.name for path in mirrors(tmp_path)} == keys


def test_a_server_that_keeps_old_commits_back_gives_them_all_the_same(
    repository: Repository, server: GitServer, client: GitClient, tmp_path: Path
) -> None:
    server.old = True
    commits = [repository.commit(FILES), repository.commit({"src/train.py": b"2"}), repository.commit({"x": b"3"})]
    url = server.url("models.git")
    git("init", "-q", "--bare", tmp_path / "plain")
    plain = ["git", "-C", tmp_path / "plain", "fetch", url, commits[1]]
    refused = subprocess.run(plain, capture_output=True, check=False)
    assert refused.returncode and b"unadvertised object" in refused.stderr
    assert package(client, url, commits[1])[1]["train.py"] == b"2"
    asked = len(server.requests)
    assert package(client, url, commits[0])[1]["train.py"] == FILES["src/train.py"]
    assert len(server.requests) == asked
    with pytest.raises(CommitGone):
        client.resolve(Source(url), pinned="1" * 40)
