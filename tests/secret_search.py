"""Looks for a secret in everything that a program did: arguments of all processes, what they wrote, what is left.

Arguments come from the kernel's own calls (``strace -f -e trace=execve``), not from looking at processes now and then.
"""

from __future__ import annotations

import base64
import re
import shutil
import subprocess
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote, quote_plus

import pytest

_CALLS = "execve,execveat,write,pwrite64,writev,pwritev,pwritev2"
_HEX = re.compile(rb"\\x([0-9a-f]{2})")
_CALL = re.compile(rb"^\d+ +(?:<\.\.\. )?(\w+)(?:\((\d+)<([^>]*)>)?")


def forms(secret: str) -> dict[str, bytes]:
    """What a secret may look like, by name: plain, percent-encoded, and the base64 form of any text that it is in."""
    found = {"plain": secret, "quote": quote(secret), "quote all": quote(secret, safe=""), "plus": quote_plus(secret)}
    found |= {f"{name}, small": re.sub("%..", lambda match: match[0].lower(), text) for name, text in found.items()}
    for before in range(3):  # base64 takes three bytes at a time: where the secret begins decides what it looks like
        data = b"\0" * before + secret.encode()
        encoded = base64.b64encode(data + b"\0" * (-len(data) % 3)).decode()
        found[f"base64 at {before}"] = encoded[-(-before * 8 // 6) : len(data) * 8 // 6]
        found[f"base64 for URLs at {before}"] = found[f"base64 at {before}"].translate(str.maketrans("+/", "-_"))
    return {name: text.encode() for name, text in found.items()}


def find(secret: str, data: bytes | str) -> list[str]:
    """The forms in which a secret is in some data."""
    text = data.encode(errors="surrogateescape") if isinstance(data, str) else data
    return [name for name, form in forms(secret).items() if form in text]


def find_in_files(secret: str, folder: Path) -> list[str]:
    """Where a secret is in a folder, file names included."""
    found = []
    for path in folder.rglob("*"):
        content = path.read_bytes() if path.is_file() and not path.is_symlink() else b""
        found += [f"{path.relative_to(folder)}: {form}" for form in find(secret, bytes(path) + b"\n" + content)]
    return found


@dataclass
class Trace:
    """What the kernel was asked for by a program and its children.

    :param lines: one call each, all strings in hexadecimal.
    """

    lines: list[bytes]

    def programs(self) -> list[bytes]:
        """One line for each program that was started, with all its arguments."""
        return [_plain(line) for line in self.lines if _name(line).startswith("execve")]

    def written(self) -> Iterator[tuple[str, bytes]]:
        """What was written into files, also into those that are gone; pipes and sockets are none."""
        for line in self.lines:
            call = _CALL.match(line)
            path = _plain(call[3]) if call and call[3] else b""
            if path.startswith(b"/") and not _name(line).startswith("execve"):
                yield path.decode(errors="replace"), _plain(line)


def _plain(line: bytes) -> bytes:
    return _HEX.sub(lambda match: bytes([int(match[1], 16)]), line)


def _name(line: bytes) -> str:
    call = _CALL.match(line)
    return call[1].decode() if call else ""


def traced(
    command: list[str], *, log: Path, env: Mapping[str, str], cwd: Path, stdin: str, timeout: float
) -> tuple[subprocess.CompletedProcess[bytes], Trace]:
    """Run a program to its end and keep its system calls.

    :param log: a file for strace's output.
    """
    strace = shutil.which("strace")
    if not strace:  # .ci/run installs it, and fails on any skip
        pytest.skip("strace is not here: install Debian's strace")
    options = ["-f", "--seccomp-bpf", "-qq", "-y", "-xx", "-s", "1000000", "-e", f"trace={_CALLS}", "-e", "signal=none"]
    done = subprocess.run(
        [strace, *options, "-o", str(log), "--", *command],
        input=stdin.encode(),
        env=dict(env),
        cwd=cwd,
        capture_output=True,
        timeout=timeout,
        check=False,
    )
    return done, Trace(log.read_bytes().splitlines())
