"""Packaging for tests, here and in processes with other environments.

As a program: packages one commit and prints the digest. Arguments: cache folder, URL, commit, umask (octal), seconds
that one git may take.
"""

from __future__ import annotations

import contextlib
import io
import os
import subprocess
import sys
import tarfile
from pathlib import Path

import psutil

from airflow_sm_git.clients.git import GitClient, PackageInfo
from tests.git_server import Repository

ROOT = Path(__file__).parents[2]
FILES = {
    "README.md": b"# Models\r\n",
    "src/train.py": b"print('train')\n",
    "src/nested/serve.py": b"print('serve')\n",
    "src/gr\u00fc\u00dfe.txt": "grüße\r\n".encode(),
    "lib/util.py": b"",
    ".gitattributes": b"*.txt text eol=lf\n*.py filter=evil\n",
}
# The commit that these files make, and the digest of its package: the same on every machine, for ever.
COMMIT = "312859e0040e95ad1201562d49b6506e018589a7"
DIGEST = "93787723f2ca600eb50592f60ad2a8ef4750b2af6e7ae50e8e49882956206bfe"


def package(client: GitClient, url: str, commit: str, **wanted: object) -> tuple[PackageInfo, dict[str, bytes]]:
    """The package of ``src`` with ``train.py``, or of what is wanted, and the contents of its members."""
    out = io.BytesIO()
    info = client.package(url, commit, **{"source_dir": "src", "entry_point": "train.py", "out": out} | wanted)  # type: ignore[arg-type]
    out.seek(0)
    with tarfile.open(fileobj=out) as tar:
        contents = {member.name: tar.extractfile(member) for member in tar.getmembers()}
        return info, {name: file.read() if file else b"" for name, file in contents.items()}


def in_another_process(cache: Path, url: str, commit: str, *, umask: str = "022", **more: str) -> list[str]:
    """Package ``src`` in a process with an environment of its own; its output and error."""
    return finished(start_another_process(cache, url, commit, umask=umask, **more))


def start_another_process(
    cache: Path, url: str, commit: str, *, umask: str = "022", timeout: float = 60, **more: str
) -> subprocess.Popen[str]:
    environment = {"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT), "PYTHONDONTWRITEBYTECODE": "1"} | more
    command = [sys.executable, "-m", "tests.clients.packaging", str(cache), url, commit, umask, str(timeout)]
    return subprocess.Popen(
        command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
    )


def finished(process: subprocess.Popen[str]) -> list[str]:
    return [text.strip() for text in process.communicate(timeout=120)]


def git_at_work(folder: Path) -> list[list[str]]:
    """The command lines of all git processes whose repository lies below a folder."""
    found = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error):
            if process.name().startswith("git"):
                command = process.cmdline()
                if str(folder) in " ".join([*command, process.environ().get("GIT_DIR", "")]):
                    found.append(command)
    return found


def fixed(repository: Repository) -> str:
    """Make the fixed commit."""
    commit = repository.commit(FILES, executable=["src/train.py"], links={"src/link": "nested/serve.py"})
    assert commit == COMMIT
    return commit


if __name__ == "__main__":
    cache, url, commit, umask, timeout = sys.argv[1:]
    os.umask(int(umask, 8))
    client = GitClient(Path(cache), allowed_schemes={"file", "http"}, timeout=float(timeout))
    try:
        info = client.package(url, commit, source_dir="src", entry_point="train.py", out=io.BytesIO())
    except Exception as error:
        sys.exit(f"{type(error).__name__}: {error}")
    print(info.digest)
