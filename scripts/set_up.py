"""Make the environment that `make demo`, `make test` and `make lint` run in: `.venv` in the checkout.

The Makefile calls this before every target, so the usual case, nothing to do, has to be quick. The environment is
right when its stamp says so: which Python and place it was made for, and a digest of the files that decide what it
holds. The stamp is written last and taken away first, so an environment without one is half made, and is made anew.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
EXTRAS = "test,dev,demo"
DECIDES = ("setup.cfg", "pyproject.toml", "constraints/newest.txt", "scripts/set_up.py")
# Each of these would make pip or uv look or install somewhere else than in the environment made here.
STRAY = (
    "CONDA_PREFIX",
    "PIP_PREFIX",
    "PIP_TARGET",
    "PIP_USER",
    "PYTHONHOME",
    "PYTHONPATH",
    "UV_PROJECT_ENVIRONMENT",
    "UV_PYTHON",
    "UV_SYSTEM_PYTHON",
    "VIRTUAL_ENV",
)


def stamp(root: Path) -> tuple[str, str]:
    """Tell what a right environment has in its stamp.

    :param root: the checkout.
    :returns: what only a new environment can change (Python, the place), and a digest of what an installation can.
    """
    digest = hashlib.sha256()
    for name in DECIDES:
        digest.update(hashlib.sha256((root / name).read_bytes()).digest())
    return f"{sys.version} in {root}".replace("\n", " "), digest.hexdigest()


def set_up(root: Path) -> bool:
    """Make `root/.venv` right if it is not.

    :param root: the checkout.
    :returns: whether there was anything to do.
    :raises subprocess.CalledProcessError: when Python's venv, pip or uv failed; they have said why.
    """
    venv = root / ".venv"
    mark, python = venv / "set-up-stamp", venv / "bin" / "python"
    made_for, holds = wanted = stamp(root)
    with _alone(root):
        there = mark.is_file() and python.exists()  # a link, which dangles when that Python was removed
        found = tuple(mark.read_text().splitlines()) if there else ()
        if found == wanted:
            return False
        mark.unlink(missing_ok=True)
        if found[:1] != (made_for,):
            print("Setting up .venv: about a minute, only this time", flush=True)
            shutil.rmtree(venv, ignore_errors=True)
            _create(venv)
        _install(root, python)
        mark.write_text(f"{made_for}\n{holds}\n")
    return True


@contextmanager
def _alone(root: Path) -> Iterator[None]:
    """Hold a lock on the checkout, so that two `make` at once do not build into each other."""
    handle = os.open(root, os.O_RDONLY)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)


def _create(venv: Path) -> None:
    # The base interpreter, because this one may be the very environment that was just removed.
    base = getattr(sys, "_base_executable", None) or sys.executable
    _run(base, "-I", "-m", "venv", str(venv))


def _install(root: Path, python: Path) -> None:
    pins = str(root / "constraints" / "newest.txt")
    what = ["-e", f"{root}[{EXTRAS}]"]
    quiet = ["--quiet", "--disable-pip-version-check"]
    _run(str(python), "-I", "-m", "pip", "install", *quiet, "--constraint", pins, "uv")
    try:
        _run(
            *(str(python.parent / "uv"), "pip", "install", "--quiet", "--python", str(python), "--compile-bytecode"),
            *("--constraint", pins, "--build-constraints", pins, *what),
        )
    except subprocess.CalledProcessError:
        # Some machines tell only pip where packages are, or which certificates to trust.
        print("uv could not install the packages; trying pip, which takes longer", flush=True)
        _run(str(python), "-I", "-m", "pip", "install", *quiet, "--constraint", pins, *what)


def _run(*command: str) -> None:
    environment = {name: value for name, value in os.environ.items() if name not in STRAY}
    subprocess.run(command, check=True, env=environment)


def main() -> int:
    """Set up the checkout that this file lies in.

    :returns: the exit code: 0 when the environment is right.
    """
    try:
        set_up(ROOT)
    except subprocess.CalledProcessError as error:
        command = " ".join(str(part) for part in error.cmd)
        print(f"Setting up .venv failed with exit code {error.returncode}: {command}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
