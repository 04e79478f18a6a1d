"""A fetch that is killed, at whatever moment, harms nothing that comes after it."""

from __future__ import annotations

import contextlib
import os
import random
import re
import signal
import subprocess
import time
from pathlib import Path

import psutil
import pytest

from airflow_sm_git.clients.git import GitClient
from airflow_sm_git.clients.git_mirror import MirrorCache
from airflow_sm_git.clients.git_process import GitRunner
from airflow_sm_git.core.source import Source
from tests.clients.packaging import git_at_work, package, start_another_process
from tests.git_server import GitServer, Repository, git

KILLS = 20
NO_GIT = GitRunner(Path("/nowhere"), allowed_schemes=(), credentials=None, timeout=1)


def kill_group(process: subprocess.Popen[str]) -> None:
    """What ends an Airflow task that must not go on: its process group. git leads one of its own, and goes on."""
    os.killpg(process.pid, signal.SIGKILL)


def kill_tree(process: subprocess.Popen[str]) -> None:
    """What ends a container or a machine: everything at once."""
    family = [psutil.Process(process.pid)]
    family += family[0].children(recursive=True)
    for each in family:
        with contextlib.suppress(psutil.NoSuchProcess):  # it had just ended by itself
            each.kill()


def filled(repository: Repository) -> list[str]:
    """Three commits, each with about as much new in its trees as in the files to package."""
    noise = random.Random(6)  # noqa: S311
    names = ["src/train.py", *(f"src/{number}.bin" for number in range(20))]
    return [
        repository.commit(
            {name: noise.randbytes(3000) for name in names}
            | {f"lib/{noise.randbytes(60).hex()}/x": noise.randbytes(1) for _ in range(500)}
        )
        for _ in range(3)
    ]


def at_a_moment_of_a_pack(server: GitServer, process: subprocess.Popen[str], dice: random.Random) -> None:
    """Wait until so much of the first or of the second pack was sent."""
    number, part = dice.randrange(2), dice.random() * 0.95
    while process.poll() is None:
        packs = [request for request in list(server.requests) if request.packs]
        if len(packs) > number and packs[number].sent > part * packs[number].length:
            return
        time.sleep(0.002)


def at_any_moment(server: GitServer, process: subprocess.Popen[str], dice: random.Random) -> None:
    """Wait a while that may end before the first request, or after the last."""
    time.sleep(dice.random() * 2)


@pytest.mark.slow
def test_after_a_kill_at_any_moment_the_next_package_is_right(
    repository: Repository, server: GitServer, client: GitClient, tmp_path: Path
) -> None:
    first, second, third = filled(repository)
    url = server.url("models.git")
    right = package(client, url, second)[0].digest
    dice = random.Random(7)  # noqa: S311
    in_mid_pack = outlived = 0
    for number in range(KILLS):
        cache = tmp_path / f"cache {number}"
        if number % 3 == 0:  # one that has something already
            package(GitClient(cache, allowed_schemes={"http"}), url, first)
        server.requests.clear()
        server.pace = (2000, 0.01)
        process = start_another_process(cache, url, second)
        (at_any_moment if number % 7 == 6 else at_a_moment_of_a_pack)(server, process, dice)
        (kill_group if number % 2 else kill_tree)(process)
        in_mid_pack += any(request.in_mid_pack for request in server.requests)
        outlived += git_at_work(cache) != []
        server.pace = None
        process.communicate()
        again = GitClient(cache, allowed_schemes={"http"}, timeout=60)
        assert package(again, url, second)[0].digest == right
        assert git_at_work(cache) == []
        assert again.resolve(Source(url, third)).commit == third
        assert_clean(cache, url)
    assert in_mid_pack >= 15
    assert outlived >= 5  # fetches whose parent was killed, and that the next package had to wait for


def test_a_fetch_that_outlives_its_parent_and_is_kept_waiting_ends_by_itself(
    repository: Repository, server: GitServer, client: GitClient, tmp_path: Path
) -> None:
    commit = filled(repository)[1]
    url = server.url("models.git")
    right = package(client, url, commit)[0].digest
    server.requests.clear()
    server.halt = 5000
    process = start_another_process(tmp_path / "c", url, commit, timeout=1)
    while not any(request.sent == server.halt for request in list(server.requests)):
        assert process.poll() is None
        time.sleep(0.002)
    kill_group(process)
    process.communicate()
    assert git_at_work(tmp_path / "c")
    server.halt = None
    again = GitClient(tmp_path / "c", allowed_schemes={"http"}, timeout=60)
    assert package(again, url, commit)[0].digest == right
    assert git_at_work(tmp_path / "c") == []


def assert_clean(cache: Path, url: str) -> None:
    """Nobody holds the lock, nothing half-finished lies about, and every pack is whole."""
    mirrors = MirrorCache(cache / "mirrors", NO_GIT, size=0, timeout=0)
    with mirrors.locked(mirrors.mirror(url).path, exclusive=True, wait=False):
        pass
    files = list((cache / "mirrors").glob("*/**/*"))
    assert not [file.name for file in files if re.search(r"\.(lock|keep)$|^tmp_|^shallow_|^new-", file.name)]
    packs = [file for file in files if file.suffix == ".pack"]
    git("verify-pack", *packs)
