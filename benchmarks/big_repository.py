"""A repository of a real one's size: thousands of commits, hundreds of megabytes, and a little code in it."""

from __future__ import annotations

import random
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

FIRST = 1_704_067_200
CODE_CHANGES = 200
"""The newest commits, of which each changes the code; the others change data alone."""


def make(path: Path, *, commits: int, megabytes: int) -> None:
    """Write the repository; the same one every time.

    :param commits: how many; commit n is made n minutes after 2024-01-01T00:00:00Z.
    :param megabytes: of data that cannot be compressed, spread over the commits.
    """
    subprocess.run(["git", "init", "-q", "--bare", "-b", "main", path], check=True)
    subprocess.run(["git", "-C", path, "config", "uploadpack.allowFilter", "true"], check=True)
    chance = random.Random(20240101)  # noqa: S311  data, not secrets
    each = (megabytes << 20) // commits
    with subprocess.Popen(["git", "-C", path, "fast-import", "--quiet"], stdin=subprocess.PIPE) as git:
        assert git.stdin
        for number in range(commits):
            head = f"commit refs/heads/main\ncommitter A <a@example.com> {FIRST + 60 * number} +0000\ndata 1\nx\n"
            git.stdin.write(head.encode())
            _file(git.stdin, f"data/{number % 50}/{number}.bin", chance.randbytes(each))
            if number == 0 or number >= commits - CODE_CHANGES:
                for script in ("train", "serve", "model", "data", "util"):
                    lines = "".join(f"{script}_{line} = {chance.random()}\n" for line in range(120))
                    _file(git.stdin, f"src/{script}.py", lines.encode())
    assert git.returncode == 0


def _file(out: object, path: str, content: bytes) -> None:
    out.write(f"M 100644 inline {path}\ndata {len(content)}\n".encode() + content + b"\n")  # type: ignore[attr-defined]


@dataclass(frozen=True)
class Host:
    """Where the repository is served.

    :param url: of the folder that it lies in.
    """

    url: str

    def sent(self) -> int:
        """Bytes sent so far."""
        with urllib.request.urlopen(f"{self.url}/_count") as answer:  # noqa: S310  loopback
            return int(answer.read())


@contextmanager
def served(root: Path) -> Iterator[Host]:
    """Serve the repositories of a folder from a process of its own."""
    command = [sys.executable, "-m", "benchmarks.git_host", str(root)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout
        try:
            yield Host(f"http://127.0.0.1:{int(process.stdout.readline())}")
        finally:
            process.terminate()
