"""SSH against a real OpenSSH server: which key is shown, which host is trusted, and that nothing is left behind."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest

from airflow_sm_git.clients.git import GitClient
from airflow_sm_git.core.errors import AuthenticationFailed, BadParameter, RemoteError
from airflow_sm_git.core.source import Source
from airflow_sm_git.core.ssh import SshAccess, key_lines
from tests.clients.packaging import FILES, package
from tests.git_server import Repository
from tests.ssh_server import Key, SshServer, make_key, serve_ssh

PHRASE = "pass $(phrase) 'ö\" %s\\n"


@pytest.fixture
def key(tmp_path: Path) -> Key:
    return make_key(tmp_path / "key")


@pytest.fixture
def server(repository: Repository, key: Key, tmp_path: Path) -> Iterator[SshServer]:
    repository.commit(FILES)
    with serve_ssh(repository.path.parent, tmp_path / "sshd", key) as running:
        yield running


def reader(tmp_path: Path, ssh: SshAccess | None, timeout: float = 60) -> GitClient:
    return GitClient(tmp_path / "cache", credentials=ssh, timeout=timeout)


def processes_with(text: str) -> list[psutil.Process]:
    """Processes of others that have this in their arguments or environment."""
    found = []
    for process in psutil.process_iter():
        try:
            said = " ".join([*process.cmdline(), *process.environ().values()])
        except (psutil.NoSuchProcess, psutil.AccessDenied, psutil.ZombieProcess):
            continue
        if text in said and process.pid != os.getpid():
            found.append(process)
    return found


def files_with(folder: Path, *texts: str) -> list[Path]:
    files = (path for path in folder.rglob("*") if path.is_file())
    return [path for path in files if any(text.encode() in path.read_bytes() for text in texts)]


@pytest.mark.parametrize(
    ("where", "kind", "passphrase", "form"),
    [
        ("inline", "ed25519", "", "RFC4716"),
        ("inline", "ed25519", PHRASE, "RFC4716"),
        ("inline", "rsa", PHRASE, "PEM"),
        ("inline", "rsa", "", "RFC4716"),
        ("file", "rsa", "", "PEM"),
        ("file", "ed25519", PHRASE, "RFC4716"),
    ],
    ids=["inline", "inline-locked", "inline-rsa-locked-old", "inline-rsa", "file-rsa-old", "file-locked"],
)
def test_a_key_opens_a_repository_whatever_its_kind(
    server: SshServer, repository: Repository, tmp_path: Path, where: str, kind: str, passphrase: str, form: str
) -> None:
    other = make_key(tmp_path / "other", kind, passphrase, form=form)
    server.let_in(other)
    given = {"private_key": other.private} if where == "inline" else {"key_file": str(other.path)}
    ssh = SshAccess(**given, passphrase=passphrase or None, known_hosts=server.known_hosts)  # type: ignore[arg-type]
    found = reader(tmp_path, ssh).resolve(Source(server.url("models.git")))
    assert found.commit == repository.sha("main")
    assert server.offered == {other.fingerprint}


def test_only_the_given_key_is_offered_though_the_worker_has_an_agent(
    server: SshServer, key: Key, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stranger, own = make_key(tmp_path / "stranger"), tmp_path / "own-agent"
    agent = subprocess.Popen(["ssh-agent", "-D", "-a", own], stdout=subprocess.DEVNULL)
    monkeypatch.setenv("SSH_AUTH_SOCK", str(own))
    try:
        while subprocess.run(["ssh-add", "-q", key.path], capture_output=True).returncode:
            time.sleep(0.02)
        ssh = SshAccess(private_key=stranger.private, known_hosts=server.known_hosts)
        with pytest.raises(AuthenticationFailed, match=r"Permission denied.*this key may read"):
            reader(tmp_path, ssh).resolve(Source(server.url("models.git")))
        assert server.offered == {stranger.fingerprint}
        assert not server.accepted
        # Without a key of the connection's it is the worker's own agent that lets us in.
        reader(tmp_path, SshAccess(known_hosts=server.known_hosts)).resolve(Source(server.url("models.git")))
        assert server.accepted == {key.fingerprint}
    finally:
        agent.terminate()
        agent.wait()


def test_without_any_key_it_ends_at_once_and_asks_nobody(
    server: SshServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = tmp_path / "asked"
    (tmp_path / "askpass").write_text(f"#!/bin/sh\ntouch {asked}\n")
    (tmp_path / "askpass").chmod(0o755)
    monkeypatch.setenv("SSH_ASKPASS", str(tmp_path / "askpass"))
    monkeypatch.setenv("SSH_ASKPASS_REQUIRE", "force")
    monkeypatch.delenv("SSH_AUTH_SOCK", raising=False)
    with pytest.raises(AuthenticationFailed, match=r"Permission denied.*worker's own key") as error:
        reader(tmp_path, None).resolve(Source(server.url("models.git")))
    assert not error.value.retryable
    assert not asked.exists()


@pytest.mark.parametrize("passphrase", [None, "wrong"])
def test_a_wrong_or_missing_passphrase_is_said(server: SshServer, tmp_path: Path, passphrase: str | None) -> None:
    locked = make_key(tmp_path / "locked", passphrase=PHRASE)
    server.let_in(locked)
    ssh = SshAccess(private_key=locked.private, passphrase=passphrase)
    with pytest.raises(AuthenticationFailed, match=r"passphrase.*Correct private_key_passphrase"):
        reader(tmp_path, ssh).resolve(Source(server.url("models.git")))
    assert not processes_with(str(tmp_path / "cache"))


def test_a_damaged_key_is_said_to_be_one(server: SshServer, key: Key, tmp_path: Path) -> None:
    lines = key.private.splitlines()
    ssh = SshAccess(private_key="\n".join([lines[0], *lines[2:]]))
    with pytest.raises(AuthenticationFailed, match=r"private key cannot be read.*Paste the whole text") as error:
        reader(tmp_path, ssh).resolve(Source(server.url("models.git")))
    assert not any(line in str(error.value) for line in lines[1:-1])


def test_a_key_file_that_is_not_there_or_is_none_is_named(server: SshServer, key: Key, tmp_path: Path) -> None:
    public = str(key.path.with_suffix(".pub"))
    for path, problem in ((str(tmp_path / "no"), "not a file"), ("key", "not a file"), (public, "is a public key")):
        with pytest.raises(BadParameter, match=rf"key_file=.*{problem}"):
            reader(tmp_path, SshAccess(key_file=path)).resolve(Source(server.url("models.git")))


def test_a_host_that_known_hosts_does_not_name_is_refused(server: SshServer, key: Key, tmp_path: Path) -> None:
    stranger = make_key(tmp_path / "stranger").public.rsplit(" ", 1)[0]
    for ssh in (
        SshAccess(private_key=key.private, known_hosts=f"example.com {stranger}"),
        SshAccess(private_key=key.private, strict_host_key_checking="yes"),
    ):
        with pytest.raises(AuthenticationFailed, match=r"host's key is not known.*known_hosts"):
            reader(tmp_path, ssh).resolve(Source(server.url("models.git")))
    assert not server.offered


def test_a_host_is_trusted_at_first_sight_and_held_to_its_key_from_then_on(
    server: SshServer, repository: Repository, key: Key, tmp_path: Path
) -> None:
    ssh = SshAccess(private_key=key.private)
    for content in (b"1", b"2"):
        commit = repository.commit({"x": content})
        assert reader(tmp_path, ssh).resolve(Source(server.url("models.git"))).commit == commit
    learned = tmp_path / "cache" / "home" / "ssh" / "known_hosts"
    assert server.known_hosts in learned.read_text()
    server.change_host_key()
    with pytest.raises(AuthenticationFailed, match=r"another key than the known one.*known_hosts") as error:
        reader(tmp_path, ssh).resolve(Source(server.url("models.git")))
    assert str(learned) in str(error.value)
    assert server.host_key.fingerprint in str(error.value)


def test_a_changed_host_key_is_refused_when_known_hosts_was_given(server: SshServer, key: Key, tmp_path: Path) -> None:
    path = tmp_path / "hosts of mine"
    path.write_text(server.known_hosts)
    both = [{"known_hosts": server.known_hosts}, {"known_hosts_file": str(path)}]
    server.change_host_key()
    for given in both:
        for checking in ("yes", "accept-new"):
            ssh = SshAccess(private_key=key.private, strict_host_key_checking=checking, **given)  # type: ignore[arg-type]
            with pytest.raises(AuthenticationFailed, match=r"another key than the known one.*known_hosts"):
                reader(tmp_path, ssh).resolve(Source(server.url("models.git")))
    ssh = SshAccess(private_key=key.private, strict_host_key_checking="no")
    reader(tmp_path, ssh).resolve(Source(server.url("models.git")))


def test_a_proxy_command_is_gone_through(server: SshServer, key: Key, tmp_path: Path) -> None:
    program, witness = tmp_path / "proxy.py", tmp_path / "witness"
    program.write_text(
        "import socket, sys, threading\n"
        f"open({str(witness)!r}, 'a').write(f'{{sys.argv[1]}} {{sys.argv[2]}}\\n')\n"
        f"far = socket.create_connection(('127.0.0.1', {server.port}))\n"
        "def up():\n"
        "    while data := sys.stdin.buffer.raw.read(65536):\n"
        "        far.sendall(data)\n"
        "    far.shutdown(socket.SHUT_WR)\n"
        "threading.Thread(target=up, daemon=True).start()\n"
        "while data := far.recv(65536):\n"
        "    sys.stdout.buffer.raw.write(data)\n"
    )
    ssh = SshAccess(private_key=key.private, proxy_command=f"{sys.executable} '{program}' %h %p", port=77)
    reader(tmp_path, ssh).resolve(Source(f"{server.user}@git.example.com:models.git"))
    assert set(witness.read_text().splitlines()) == {"git.example.com 77"}


def test_the_port_is_the_urls_else_the_connections(
    server: SshServer, repository: Repository, key: Key, tmp_path: Path
) -> None:
    commit = repository.sha("main")
    right = SshAccess(private_key=key.private, port=server.port)
    wrong = SshAccess(private_key=key.private, port=1)
    for ssh, url in (
        (right, server.short_url("models.git")),
        (right, f"ssh://{server.user}@127.0.0.1/models.git"),
        (SshAccess(private_key=key.private, port=server.port, user=server.user), "ssh://127.0.0.1/models.git"),
        (SshAccess(private_key=key.private, port=server.port, user=server.user), "127.0.0.1:models.git"),
        (wrong, server.url("models.git")),
    ):
        assert reader(tmp_path, ssh).resolve(Source(url)).commit == commit
    with pytest.raises(RemoteError, match="port 1: Connection refused"):
        reader(tmp_path, wrong).resolve(Source(server.short_url("models.git")))


def test_a_configuration_file_of_the_connections_acts(server: SshServer, key: Key, tmp_path: Path) -> None:
    config = tmp_path / "ssh config"
    config.write_text(f"Host work\n  HostName 127.0.0.1\n  Port {server.port}\n  User {server.user}\n")
    ssh = SshAccess(private_key=key.private, config_file=str(config))
    reader(tmp_path, ssh).resolve(Source("work:models.git"))


def test_keys_and_passphrases_lie_in_no_file_while_git_runs_nor_after(
    server: SshServer, repository: Repository, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    locked = make_key(tmp_path / "locked", passphrase=PHRASE)
    server.let_in(locked)
    ssh = SshAccess(private_key=locked.private, passphrase=PHRASE)
    (tmp_path / "tmp").mkdir()
    monkeypatch.setenv("TMPDIR", str(tmp_path / "tmp"))
    places, texts = [tmp_path / "cache", tmp_path / "tmp"], [PHRASE, *key_lines(locked.private)]
    client, url = reader(tmp_path, ssh), server.url("models.git")
    server.stall()
    worker = threading.Thread(target=client.resolve, args=(Source(url),))
    worker.start()
    try:
        deadline = time.monotonic() + 30
        while not server.accepted:
            assert time.monotonic() < deadline
            time.sleep(0.02)
        assert [path for place in places for path in files_with(place, *texts)] == []
        arguments = [" ".join(one.cmdline()) for one in processes_with(str(tmp_path / "cache")) if one.is_running()]
        assert arguments
        assert not any(text in line for line in arguments for text in texts)
        # The agent has the key from a pipe: neither it nor git nor ssh has the key in its environment.
        holders = [one.name() for one in processes_with(texts[1])]
        assert set(holders) <= {"sh", "dash", "bash", "ssh-agent"}, holders
    finally:
        server.stall(False)
        worker.join(30)
    package(client, url, repository.sha("main"))
    assert [path for place in places for path in files_with(place, *texts)] == []
    assert not list((tmp_path / "cache" / "home").glob("*agent*"))
    assert not processes_with(str(tmp_path / "cache"))


@contextmanager
def silent_server() -> Iterator[int]:
    """Takes connections and says nothing; its port."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield listener.getsockname()[1]


def test_a_silent_host_is_given_up_after_the_connect_timeout(key: Key, tmp_path: Path) -> None:
    with silent_server() as port, pytest.raises(RemoteError, match="timed out"):
        ssh = SshAccess(private_key=key.private, connect_timeout=1)
        reader(tmp_path, ssh).resolve(Source(f"ssh://me@127.0.0.1:{port}/models.git"))
    assert not processes_with(str(tmp_path / "cache"))


def test_the_total_limit_ends_git_ssh_and_the_agent_together(server: SshServer, key: Key, tmp_path: Path) -> None:
    server.stall()
    with pytest.raises(RemoteError, match="took longer than 2 s"):
        reader(tmp_path, SshAccess(private_key=key.private), timeout=2).resolve(Source(server.url("models.git")))
    assert server.accepted == {key.fingerprint}
    deadline = time.monotonic() + 5
    while left := processes_with(str(tmp_path / "cache")):
        assert time.monotonic() < deadline, left
        time.sleep(0.02)


def test_a_cache_that_lies_too_deep_for_a_socket_is_no_hindrance(
    server: SshServer, repository: Repository, key: Key, tmp_path: Path
) -> None:
    deep = tmp_path / ("deep" * 20) / ("deeper" * 10)
    client = GitClient(deep, credentials=SshAccess(private_key=key.private))
    assert client.resolve(Source(server.url("models.git"))).commit == repository.sha("main")
    assert not list(deep.rglob("*agent*"))
