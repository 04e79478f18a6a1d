"""How a login over SSH reaches git: an agent of its own that holds one key, and an ssh that cannot ask anybody.

The key goes from git's environment through a pipe into the agent's memory, never to the disk. The agent runs in git's
process group, so whatever ends the group ends it too; its socket may be used by this user alone (ssh-agent(1)).
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import secrets
import shlex
import tempfile
import time
from pathlib import Path
from urllib.parse import urlsplit

from airflow_sm_git.clients.git_environment import Access
from airflow_sm_git.core.errors import BadParameter
from airflow_sm_git.core.ssh import SshAccess, check_private_key

_LONGEST_SOCKET = 103  # sun_path holds 104 bytes on macOS, 108 on Linux (unix(7)), the closing zero among them
_SOCKET = "sm-git-agent-"
_SOCKET_LIFE = 86400.0
_OPTIONS = {
    "BatchMode": "yes",
    "ServerAliveInterval": "15",
    "ServerAliveCountMax": "4",
    "ForwardAgent": "no",
    "ClearAllForwardings": "yes",
    "PermitLocalCommand": "no",
    "ControlMaster": "no",
    "ControlPath": "none",
}
# ssh-add asks again after a wrong passphrase, for ever; the second question gets no answer.
_ASKPASS = """#!/bin/sh
case $1 in Bad*) exit 1 ;; esac
printf '%s\\n' "$SM_GIT_PASSPHRASE"
"""
_WITH_AGENT = """
command -v ssh-add >/dev/null || { echo "Authentication failed: no ssh-agent could be started" >&2; exit 255; }
ssh-agent -D -a "$SSH_AUTH_SOCK" >/dev/null 2>&1 &
agent=$!
end() { kill "$agent" 2>/dev/null; wait "$agent" 2>/dev/null; exit "$1"; }
trap 'end 143' HUP INT TERM
tries=0
until ssh-add -l >/dev/null 2>&1; test $? -eq 1; do
  tries=$((tries + 1))
  test "$tries" -lt 1000 || { echo "Authentication failed: no ssh-agent could be started" >&2; end 255; }
  sleep 0.01
done
printf '%s\\n' "$SM_GIT_KEY" | ssh-add -q - || { echo "Authentication failed: ssh-add refuses the key" >&2; end 255; }
unset SM_GIT_KEY SM_GIT_PASSPHRASE SSH_ASKPASS SSH_ASKPASS_REQUIRE
"$@"
end $?
"""
_REFUSED = "Check that {whose} key may read the repository (the connection of git_conn_id)."


def ssh_access(ssh: SshAccess, url: str, home: Path) -> Access:
    """Let git reach ``url`` with this key and no other, or with the worker's own where it brings none.

    :param home: git's HOME; what is kept beside is not secret: host keys, the script that hands on the passphrase.
    :raises BadParameter: a file that it names cannot be read, or holds no private key.
    """
    folder = home / "ssh"
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    options = {**_OPTIONS, "ConnectTimeout": str(ssh.connect_timeout), **_host_keys(ssh, folder), **_way(ssh, url)}
    environment = {"GIT_SSH_VARIANT": "ssh", "SSH_ASKPASS_REQUIRE": "never"}
    command: tuple[str, ...] = ()
    if ssh.has_key:
        options |= {"IdentityFile": "none", "IdentitiesOnly": "no", "IdentityAgent": "SSH_AUTH_SOCK"}
        environment |= {
            "SM_GIT_KEY": _key(ssh).rstrip("\n"),
            "SM_GIT_PASSPHRASE": ssh.passphrase or "",
            "SSH_ASKPASS": str(_written(folder / "askpass", _ASKPASS, 0o700)),
            "SSH_ASKPASS_REQUIRE": "force",
            "SSH_AUTH_SOCK": str(_socket(home)),
        }
        command = ("sh", "-c", _WITH_AGENT, "sh")
    config = ssh.config_file or ("none" if ssh.has_key else None)
    words = ["ssh", *(["-F", _existing("ssh_config_file", config)] if config else [])]
    words += [f"-o{name}={value}" for name, value in options.items()]
    environment["GIT_SSH_COMMAND"] = shlex.join(words)
    return Access(
        environment=environment,
        command=command,
        replaces_helpers=True,
        remedy=_REFUSED.format(whose="this" if ssh.has_key else "the worker's own"),
    )


def explained(said: str) -> tuple[str, str] | None:
    """What went wrong with SSH, and what to do, from what git and ssh said; None if it is something else."""
    if "REMOTE HOST IDENTIFICATION HAS CHANGED" in said:
        offered = re.search(r"fingerprint for the (\S+) key sent by the remote host is\s+(\S+?)\.?\s", said)
        what = "The host shows another key than the known one" + (f": {' '.join(offered.groups())}" if offered else "")
        remedy = (
            "Somebody may stand between. If the host did change its key, put the new one into known_hosts (the field of"
            " the connection, or the file that ssh names above), in place of the old one."
        )
        where = re.search(r"Offending \S+ key in (\S+)", said)
        return what + (f" (known from {where.group(1)})." if where else "."), remedy
    if "Host key verification failed" in said:
        remedy = "Put the host's key into the connection's known_hosts (as 'ssh-keyscan HOST' prints it, once checked)."
        return "The host's key is not known", remedy
    if "ssh-add refuses the key" in said:
        return _refused_key(said)
    if "no ssh-agent could be started" in said:
        return "No ssh-agent could be started.", "Install OpenSSH's client programs on the worker."
    return None


def _refused_key(said: str) -> tuple[str, str]:
    if "Error loading key" in said:
        remedy = "Paste the whole text of the private key again; ssh-keygen -y -f FILE tells whether a file holds one."
        return "The connection's private key cannot be read: its text is damaged, or of an unknown kind.", remedy
    remedy = "Correct private_key_passphrase in the connection's extra."
    return "The passphrase of the connection's private key is wrong, or missing.", remedy


def _key(ssh: SshAccess) -> str:
    if ssh.private_key:
        return ssh.private_key
    path = Path(_existing("key_file", ssh.key_file or ""))
    try:
        text = path.read_text("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        why = error.strerror if isinstance(error, OSError) else "it is not text"
        remedy = "Name a file with a private key that the worker may read."
        raise BadParameter("key_file", ssh.key_file, f"cannot be read: {why}.", remedy) from None
    return check_private_key(text, "key_file")


def _host_keys(ssh: SshAccess, folder: Path) -> dict[str, str]:
    """Which host keys are trusted: the given ones alone, else those of the worker and of our earlier visits."""
    options = {"StrictHostKeyChecking": ssh.checking}
    given = [_existing("known_hosts_file", ssh.known_hosts_file)] if ssh.known_hosts_file else []
    if ssh.known_hosts:
        name = f"known_hosts-{hashlib.sha256(ssh.known_hosts.encode()).hexdigest()[:16]}"
        given.insert(0, str(_written(folder / name, ssh.known_hosts, 0o600)))
    if given:
        options["GlobalKnownHostsFile"] = "/dev/null"
    elif ssh.checking == "no":
        given = ["/dev/null"]
    elif ssh.checking == "accept-new":
        given = [str(folder / "known_hosts"), "~/.ssh/known_hosts", "~/.ssh/known_hosts2"]
    if given:
        options["UserKnownHostsFile"] = " ".join(_quoted(path) for path in given)
    return options


def _way(ssh: SshAccess, url: str) -> dict[str, str]:
    """How to reach the host. What the URL says comes first; ssh itself would take the option for it."""
    parts = urlsplit(url) if "://" in url else None
    host = url.partition("://")[2].partition("/")[0] if parts else url.partition(":")[0]
    options = {}
    if ssh.port and not (parts and parts.port):
        options["Port"] = str(ssh.port)
    if ssh.user and "@" not in host:
        options["User"] = ssh.user
    if ssh.proxy_command:
        options["ProxyCommand"] = ssh.proxy_command
    return options


def _quoted(path: str) -> str:
    """A path as a value in ssh_config(5), where % starts a token."""
    return '"' + path.replace("%", "%%") + '"'


def _existing(parameter: str, path: str) -> str:
    if path == "none":
        return path
    full = os.path.expanduser(path)
    if not os.path.isabs(full) or not os.path.isfile(full):
        problem = "is not a file on this worker."
        raise BadParameter(parameter, path, problem, "Write the full path of a file that every worker has.")
    return full


def _written(path: Path, text: str, mode: int) -> Path:
    """A file with this text, put there at once: other processes may be reading it."""
    with contextlib.suppress(OSError, UnicodeDecodeError):
        if path.read_text("utf-8") == text and path.stat().st_mode & 0o777 == mode:
            return path
    number, name = tempfile.mkstemp(dir=path.parent)
    with os.fdopen(number, "w", encoding="utf-8") as file:
        file.write(text)
    os.chmod(name, mode)
    os.replace(name, path)
    return path


def _socket(home: Path) -> Path:
    """A new place for an agent's socket, which only this user may use; those of agents killed long ago go.

    Where the cache lies too deep for the name of a socket, it is the folder for temporary files.
    """
    for folder in (home, Path(tempfile.gettempdir()), Path("/tmp")):  # noqa: S108  (the name cannot be guessed)
        path = folder / f"{_SOCKET}{secrets.token_hex(6)}"
        if len(os.fsencode(path)) <= _LONGEST_SOCKET:
            break
    for old in path.parent.glob(f"{_SOCKET}*"):
        with contextlib.suppress(OSError):
            if old.stat().st_uid == os.getuid() and time.time() - old.stat().st_mtime > _SOCKET_LIFE:
                old.unlink()
    return path
