"""Environments of their own for the programs we compare ourselves with.

They stay out of the test environment because they install into the running interpreter, pin old
libraries, or bring a second copy of something under test. Each is built once per checkout and set of requirements.
"""

from __future__ import annotations

import fcntl
import hashlib
import shutil
import subprocess
import sys
from pathlib import Path

CHECKOUT = Path(__file__).resolve().parent.parent


def peer_python(name: str, requirements: list[str]) -> Path:
    """The interpreter of a cached virtual environment holding ``requirements``.

    :param name: what the environment is for; part of its folder's name.
    :param requirements: pip requirement lines, best pinned: the cache key is made of them and the Python version.
    :returns: path of the environment's ``python``, below ``.venv-peers/`` in the checkout.
    :raises subprocess.CalledProcessError: the installation failed; nothing is left of the environment then.
    """
    version = f"{sys.version_info.major}.{sys.version_info.minor}"
    key = hashlib.sha256("\n".join([version, *sorted(requirements)]).encode()).hexdigest()[:12]
    shelf = CHECKOUT / ".venv-peers"
    shelf.mkdir(exist_ok=True)
    home = shelf / f"{name}-{key}"
    python = home / "bin" / "python"
    with (shelf / f".{name}-{key}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if (home / "complete").exists():
            return python
        shutil.rmtree(home, ignore_errors=True)
        try:
            _run([*_uv(), "venv", "--quiet", "--python", sys.executable, str(home)])
            _run([*_uv(), "pip", "install", "--quiet", "--python", str(python), *requirements])
        except subprocess.CalledProcessError:
            shutil.rmtree(home, ignore_errors=True)
            raise
        (home / "complete").touch()
    return python


def airflow_python(version: str) -> Path:
    """The interpreter of an environment with an Airflow; only the tests' own holds this project too.

    :param version: ``"newest"`` for the tests' own environment, or that of a file in ``constraints/``.
    """
    if version == "newest":
        return Path(sys.executable)
    lines = (CHECKOUT / "constraints" / f"airflow-{version}.txt").read_text().splitlines()
    return peer_python(f"airflow-{version}", [line for line in lines if not line.startswith("#")])


def _uv() -> list[str]:
    beside = Path(sys.executable).with_name("uv")
    return [str(beside if beside.exists() else shutil.which("uv") or "uv")]


def _run(command: list[str]) -> None:
    subprocess.run(command, check=True)
