"""A real OpenSSH server on loopback that serves the repositories below one folder, and nothing else."""

from __future__ import annotations

import getpass
import os
import re
import shlex
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest

# Serves `git-upload-pack '/NAME'` for a repository NAME below the root, and no other command.
_SERVE = """#!/bin/sh
eval "set -- $SSH_ORIGINAL_COMMAND"
name=${{2#/}}
case $1:$name in git-upload-pack:*..*) exit 1 ;; git-upload-pack:*) ;; *) echo "no: $1" >&2; exit 1 ;; esac
while test -e {stall}; do sleep 0.1; done
exec git upload-pack {root}/"$name"
"""


@dataclass(frozen=True)
class Key:
    """A key pair.

    :param path: the private key's file; the public one lies beside it.
    """

    path: Path

    @property
    def private(self) -> str:
        return self.path.read_text()

    @property
    def public(self) -> str:
        return self.path.with_suffix(".pub").read_text().strip()

    @property
    def fingerprint(self) -> str:
        """As sshd logs it."""
        return _run("ssh-keygen", "-lf", str(self.path.with_suffix(".pub"))).split()[1]


def make_key(path: Path, kind: str = "ed25519", passphrase: str = "", *, form: str = "RFC4716") -> Key:
    """Make a key pair.

    :param kind: ``ed25519`` or ``rsa``.
    :param form: of the private key: ``RFC4716`` is OpenSSH's own, ``PEM`` the old one.
    """
    size = ["-b", "2048"] if kind == "rsa" else []
    _run("ssh-keygen", "-q", "-t", kind, *size, "-m", form, "-N", passphrase, "-C", "test", "-f", str(path))
    return Key(path)


@dataclass
class SshServer:
    """What is running.

    :param user: whom to log in as.
    :param host_key: what it shows to clients.
    """

    port: int
    root: Path
    user: str
    host_key: Key
    folder: Path
    processes: list[subprocess.Popen[bytes]] = field(default_factory=list)

    def url(self, name: str) -> str:
        """The repository's URL, port included."""
        return f"ssh://{self.user}@127.0.0.1:{self.port}/{name}"

    def short_url(self, name: str) -> str:
        """The repository's URL in the form that cannot name a port."""
        return f"{self.user}@127.0.0.1:{name}"

    @property
    def known_hosts(self) -> str:
        """The line that lets clients know it."""
        return f"[127.0.0.1]:{self.port} {' '.join(self.host_key.public.split()[:2])}\n"

    @property
    def log(self) -> str:
        return (self.folder / "log").read_text()

    @property
    def accepted(self) -> set[str]:
        """Fingerprints of the keys that were let in."""
        return set(re.findall(r"Accepted publickey for \S+ from \S+ port \d+ ssh2: \S+ (\S+)", self.log))

    @property
    def offered(self) -> set[str]:
        """Fingerprints of all the keys that clients offered."""
        return self.accepted | set(re.findall(r"Failed publickey for \S+ from .*? ssh2: \S+ (\S+)", self.log))

    def let_in(self, *keys: Key) -> None:
        """Let these keys in, and no others."""
        command = shlex.quote(str(self.folder / "serve"))
        lines = [f'restrict,command="{command}" {key.public}\n' for key in keys]
        (self.folder / "authorized_keys").write_text("".join(lines))

    def stall(self, on: bool = True) -> None:
        """Take clients in, and then say nothing."""
        (self.folder / "stall").touch() if on else (self.folder / "stall").unlink(missing_ok=True)

    def change_host_key(self) -> None:
        """Come back on the same port with another host key."""
        self.stop()
        self.host_key = make_key(self.folder / f"other{len(self.processes)}")
        self.start()

    def start(self) -> None:
        """Run until it answers."""
        config = self.folder / "config"
        config.write_text(
            f"Port {self.port}\nListenAddress 127.0.0.1\nHostKey {self.host_key.path}\nPidFile none\n"
            f"AuthorizedKeysFile {self.folder / 'authorized_keys'}\nStrictModes no\nUsePAM no\n"
            "PasswordAuthentication no\nKbdInteractiveAuthentication no\nPubkeyAuthentication yes\n"
            "PermitRootLogin prohibit-password\nLogLevel VERBOSE\nPermitUserEnvironment no\nMaxStartups 100\n"
            "AcceptEnv GIT_PROTOCOL\n"
        )
        program = _sshd()
        command = [program, "-D", "-f", str(config), "-E", str(self.folder / "log")]
        self.processes.append(subprocess.Popen(command, start_new_session=True))
        deadline = time.monotonic() + 20
        while True:
            try:
                with socket.create_connection(("127.0.0.1", self.port), 1) as probe:
                    assert probe.recv(4) == b"SSH-"
                    return
            except OSError:
                log = self.folder / "log"
                assert self.processes[-1].poll() is None, log.read_text() if log.exists() else "sshd ended"
                assert time.monotonic() < deadline, "sshd does not answer"
                time.sleep(0.02)

    def stop(self) -> None:
        """End it, and all that it started: sessions of sshd lead groups of their own."""
        self.stall(False)
        process = self.processes[-1]
        for pid in [*_descendants(process.pid), process.pid]:
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                continue
        process.wait()


@contextmanager
def serve_ssh(root: Path, folder: Path, *keys: Key) -> Iterator[SshServer]:
    """Serve the bare repositories below ``root`` on a free port of loopback, as the user who runs this.

    :param folder: for the server's own files; made.
    :param keys: whom to let in.
    """
    folder.mkdir(parents=True)
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    script = folder / "serve"
    script.write_text(_SERVE.format(root=shlex.quote(str(root)), stall=shlex.quote(str(folder / "stall"))))
    script.chmod(0o755)
    server = SshServer(port, root, getpass.getuser(), make_key(folder / "host"), folder)
    server.let_in(*keys)
    if os.geteuid() == 0:
        Path("/run/sshd").mkdir(mode=0o755, exist_ok=True)  # Debian's place for privilege separation; gone at a boot
    server.start()
    try:
        yield server
    finally:
        server.stop()


def _sshd() -> str:
    program = shutil.which("sshd", path=f"{os.environ['PATH']}:/usr/sbin:/usr/local/sbin")
    if not program:  # .ci/run installs it, and fails on any skip
        pytest.skip("sshd is not here: install Debian's openssh-server")
    return program


def _descendants(pid: int) -> list[int]:
    import psutil

    try:
        return [child.pid for child in psutil.Process(pid).children(recursive=True)]
    except psutil.NoSuchProcess:
        return []


def _run(*command: str) -> str:
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout
