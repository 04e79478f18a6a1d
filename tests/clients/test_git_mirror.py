from __future__ import annotations

import os
import random
import subprocess
import time
import zlib
from pathlib import Path

import pytest

from airflow_sm_git.clients.git import GitClient
from airflow_sm_git.clients.git_mirror import MirrorCache
from airflow_sm_git.clients.git_process import GitRunner
from airflow_sm_git.core.errors import (
    CommitGone,
)
from airflow_sm_git.core.source import Source
from tests.clients.packaging import (
    DIGEST,
    FILES,
    finished,
    fixed,
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


def test_two_processes_at_once_fetch_one_pack_each_thing(
    repository: Repository, server: GitServer, tmp_path: Path
) -> None:
    commit = fixed(repository)
    cache = MirrorCache(tmp_path / "c/mirrors", NO_GIT, size=0, timeout=60)
    with cache.locked(cache.mirror(server.url("models.git")).path, exclusive=False):  # all find nothing, and wait
        started = [start_another_process(tmp_path / "c", server.url("models.git"), commit) for _ in range(4)]
        time.sleep(2)
    assert not server.requests
    assert [finished(process) for process in started] == [[DIGEST, ""]] * 4
    assert server.packs == 2  # the commit with its trees; the blobs


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


@pytest.mark.parametrize(
    "damage",
    [damage_head, damage_config, damage_packs, damage_blobs, damage_indexes, swap_a_blob, lose_packs, leave_locks],
)
def test_a_broken_mirror_is_rebuilt(repository: Repository, client: GitClient, tmp_path: Path, damage: object) -> None:
    commit = fixed(repository)
    package(client, repository.url, commit)
    (mirror,) = (path for path in (tmp_path / "cache/mirrors").iterdir() if path.is_dir())
    damage(mirror)  # type: ignore[operator]
    assert package(client, repository.url, commit)[0].digest == DIGEST
    assert not list(mirror.rglob("*.lock")) and not list(mirror.rglob("tmp_*"))
    assert client.resolve(Source(repository.url)).commit == commit


def test_the_least_recently_used_mirror_goes_when_the_cache_is_full(repository: Repository, tmp_path: Path) -> None:
    client = GitClient(tmp_path / "cache", allowed_schemes={"file"}, cache_size=60_000)
    noise = random.Random(2)  # noqa: S311
    for name in "abc":
        other = Repository(tmp_path / f"{name}.git")
        commit = other.commit({"train.py": noise.randbytes(25_000)})
        package(client, other.url, commit, source_dir=".")
        mirrors = [path for path in (tmp_path / "cache/mirrors").iterdir() if path.is_dir()]
        assert len(mirrors) == {"a": 1, "b": 2, "c": 2}[name]


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
