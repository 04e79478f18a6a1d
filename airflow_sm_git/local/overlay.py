"""What a script's requirements.txt asks for, installed beside the server's environment and never into it.

An overlay is a directory for PYTHONPATH, named by the hash of what was asked for; it is built once, under a lock, in
another place, and renamed when it is complete.
"""

from __future__ import annotations

import fcntl
import hashlib
import importlib.metadata
import importlib.util
import os
import platform
import shutil
import sys
import sysconfig
from collections import deque
from collections.abc import Callable, Mapping
from pathlib import Path

from packaging.requirements import InvalidRequirement, Requirement

from airflow_sm_git.local.process import GuardedProcess, base_environment

_LAST_LINES = 12
_PASSED_ON = ("PIP_", "UV_")


class OverlayError(Exception):
    """Requirements could not be installed; the text holds the installer's last lines."""

    def __init__(self, command: str, code: int, output: str) -> None:
        self.command = command
        self.code = code
        self.output = output
        super().__init__(f'InstallRequirementsError:\nExitCode {code}\nErrorMessage "{output}"\nCommand "{command}"')


def ensure(
    code: Path,
    overlays: Path,
    log: Callable[[str], None],
    *,
    on_process: Callable[[GuardedProcess], None] = lambda _: None,
) -> Path | None:
    """The overlay for a code directory.

    :param code: directory that may hold ``requirements.txt``.
    :param overlays: where overlays are kept.
    :param log: called with each line the installer prints.
    :param on_process: called with the installer when it starts, so that it can be stopped.
    :returns: a directory for PYTHONPATH; None if nothing is asked for that this interpreter does not have already.
    :raises OverlayError: the installation failed. Nothing of it is left.
    """
    path = code / "requirements.txt"
    if not path.is_file():
        return None
    text = path.read_text(errors="replace")
    lines = [
        line for line in (raw.split(" #")[0].strip() for raw in text.splitlines()) if line and not line.startswith("#")
    ]
    if all(satisfied(line) for line in lines):
        return None
    inputs = [text] if all(_requirement(line) for line in lines) else [text, *_tree(code)]
    return _build(inputs, ["-r", "requirements.txt"], code, overlays, log, on_process)


def ensure_package(
    code: Path,
    overlays: Path,
    log: Callable[[str], None],
    *,
    on_process: Callable[[GuardedProcess], None] = lambda _: None,
) -> Path:
    """The overlay for a code directory that is a package (``setup.py``): the package and its requirements.txt, if any.

    Parameters and errors as in :func:`ensure`.
    """
    wanted = [".", *(["-r", "requirements.txt"] if (code / "requirements.txt").is_file() else [])]
    return _build(_tree(code), wanted, code, overlays, log, on_process)


def satisfied(line: str) -> bool:
    """Whether a line of a requirements file asks only for what this interpreter has, so that pip would do nothing."""
    requirement = _requirement(line)
    if requirement is None or requirement.url or requirement.extras:
        return False
    if requirement.marker and not requirement.marker.evaluate():
        return True
    try:
        version = importlib.metadata.version(requirement.name)
    except importlib.metadata.PackageNotFoundError:
        return False
    return requirement.specifier.contains(version, prereleases=True)


def _requirement(line: str) -> Requirement | None:
    try:
        return Requirement(line)
    except InvalidRequirement:
        return None


def _tree(code: Path) -> list[str]:
    """Names and digests of all files, for requirements that refer to files."""
    files = sorted(path for path in code.rglob("*") if path.is_file())
    return [f"{path.relative_to(code)} {hashlib.sha256(path.read_bytes()).hexdigest()}" for path in files]


def _build(
    inputs: list[str],
    wanted: list[str],
    code: Path,
    overlays: Path,
    log: Callable[[str], None],
    on_process: Callable[[GuardedProcess], None],
) -> Path:
    ours = [sysconfig.get_platform(), platform.python_version(), *wanted]
    key = hashlib.sha256("\0".join([*ours, *inputs]).encode()).hexdigest()[:24]
    overlays.mkdir(parents=True, exist_ok=True)
    finished, building = overlays / key, overlays / f".{key}"
    with (overlays / f"{key}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if finished.is_dir():
            log(f"Requirements are installed already ({finished.name})")
            return finished
        shutil.rmtree(building, ignore_errors=True)
        try:
            _install([*wanted, "--target", str(building)], code, log, on_process)
            building.mkdir(exist_ok=True)
            building.rename(finished)
        finally:
            shutil.rmtree(building, ignore_errors=True)
    return finished


def _install(
    wanted: list[str], code: Path, log: Callable[[str], None], on_process: Callable[[GuardedProcess], None]
) -> None:
    command = [*installer(), *wanted]
    tail: deque[str] = deque(maxlen=_LAST_LINES)

    def note(line: str) -> None:
        tail.append(line)
        log(line)

    log(f"Installing dependencies: {' '.join(command)}")
    home, temporary = os.environ.get("HOME", "/"), os.environ.get("TMPDIR", "/tmp")  # noqa: S108
    process = GuardedProcess.start(
        command, env=base_environment(home, temporary) | _settings(os.environ), cwd=code, on_line=note
    )
    on_process(process)
    end = process.wait()
    if end is None or end.code:
        raise OverlayError(" ".join(command), end.code if end else 1, "\n".join(tail))


def installer() -> list[str]:
    """The command that installs for this interpreter: uv if it is there, else pip.

    :raises OverlayError: neither is there.
    """
    beside = Path(sys.executable).with_name("uv")
    uv = str(beside) if beside.exists() else shutil.which("uv")
    if uv:
        # Copies: a script that writes into its packages must not write into uv's cache through a hard link.
        return [uv, "pip", "install", "--no-progress", "--link-mode", "copy", "--python", sys.executable]
    command = [sys.executable, "-m", "pip", "install", "--disable-pip-version-check", "--no-input"]
    if importlib.util.find_spec("pip") is None:
        words = f"{sys.prefix} has neither pip nor uv: install one of them, or what requirements.txt asks for"
        raise OverlayError(" ".join(command), 1, words)
    return command


def _settings(environment: Mapping[str, str]) -> dict[str, str]:
    """pip's and uv's own variables: where packages come from."""
    return {name: value for name, value in environment.items() if name.startswith(_PASSED_ON)}
