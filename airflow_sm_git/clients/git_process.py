"""Runs git so that nothing but what is said here acts on it. The only module that imports GitPython.

Credentials and all configuration go to git through its environment (git-config(1), ``GIT_CONFIG_COUNT``): neither a
command line nor a file ever holds them.
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import signal
import subprocess
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from airflow_sm_git.clients.git_access import access_for
from airflow_sm_git.clients.git_environment import (
    COPIED_CONFIG,
    NOTHING,
    Access,
    Remote,
    environment,
    is_kept,
    with_home,
)
from airflow_sm_git.clients.git_ssh import explained as explained_by_ssh
from airflow_sm_git.core.credentials import Login
from airflow_sm_git.core.errors import AuthenticationFailed, GitError, RemoteError
from airflow_sm_git.core.urls import redact

if TYPE_CHECKING:
    import git

_OLDEST = (2, 39)
_GRACE = 2.0  # seconds after the timeout, in which we end git ourselves
# A file that grows too large is an error to git, in place of a signal (POSIX.1-2017, ulimit: units of 512 bytes).
_LIMITED = ("sh", "-c", 'trap "" XFSZ; ulimit -f "$1"; shift; exec "$@"', "sh")
_WANTS_LOGIN = re.compile(
    r"Authentication failed|could not read (Username|Password)|terminal prompts disabled|Permission denied \("
    r"|Host key verification failed|returned error: 40[13]",
    re.IGNORECASE,
)
_REFUSES_COMMIT = re.compile(
    r"not our ref|unadvertised object|couldn't find remote ref|does not support shallow|want \S+ not valid",
    re.IGNORECASE,
)
_UNREACHABLE = re.compile(
    r"unable to access|Could not resolve|Connection (refused|reset|closed|timed out)|Could not read from remote"
    r"|hung up|early EOF|RPC failed|unexpected disconnect|curl \d+|repository .*not found|returned error"
    r"|Operation too slow|bytes of body are still expected|does not appear to be a git repository"
    r"|transport '.*' not allowed|protocol error|No route to host"
    r"|not valid: is this a git repository|invalid index-pack output",
    re.IGNORECASE,
)
_UNTRUSTED = re.compile(r"certificate|SSL_CTX_load_verify_locations|CAfile", re.IGNORECASE)
_ADVICE = re.compile(r"Please make sure you have the correct access rights|and the repository exists\.")
_REDIRECTS = re.compile(r"returned error: 30[12378]")
_BROKEN_HERE = re.compile(
    r"^(error|fatal): (packfile|index file|object|bad object|loose object|unable to (read|open|create)|inflate"
    r"|bad config|cannot (lock|open)|missing|improper|not a git repository)",
    re.MULTILINE,
)


class CommandFailed(Exception):
    """A git command ended with another status than 0. Internal to the clients.

    :param code: its status.
    :param stderr: what it said, without secrets.
    :param remedy: what to do if the remote did not let us in.
    """

    def __init__(self, code: int, stderr: str, remedy: str = NOTHING.remedy) -> None:
        super().__init__(code, stderr, remedy)
        self.code = code
        self.stderr = stderr
        self.remedy = remedy

    @property
    def refuses_commit(self) -> bool:
        """Whether the remote does not have, or does not give, the object that was asked for."""
        return bool(_REFUSES_COMMIT.search(self.stderr))

    @property
    def is_too_large(self) -> bool:
        """Whether git would have written a larger file than it may."""
        return "File too large" in self.stderr

    @property
    def is_remote(self) -> bool:
        """Whether the remote or the network is to blame, and not what lies on this machine."""
        if _BROKEN_HERE.search(self.stderr):
            return False
        return bool(_WANTS_LOGIN.search(self.stderr) or _UNREACHABLE.search(self.stderr))

    def explained(self, url: str) -> GitError:
        """The error to show for a command that talked to ``url``."""
        ssh = explained_by_ssh(self.stderr)
        if ssh:
            return AuthenticationFailed(f"{url} does not let us in: {ssh[0]}", ssh[1])
        lines = [line.strip() for line in self.stderr.splitlines() if line.strip() and not _ADVICE.match(line)]
        said = " / ".join(lines[-3:]) or f"git ended with status {self.code}"
        if _WANTS_LOGIN.search(self.stderr):
            return AuthenticationFailed(f"{url} does not let us in: {said}.", self.remedy)
        if _UNTRUSTED.search(self.stderr):
            remedy = (
                "Name the file with your certificate authority as http.sslCAInfo in the git configuration of the"
                " worker's user, or in the worker's variable GIT_SSL_CAINFO."
            )
            return RemoteError(f"The certificate of {url} is not trusted: {said}.", remedy)
        if _REDIRECTS.search(self.stderr):
            remedy = "Write the URL that the host redirects to: a bearer token is not sent on."
            return RemoteError(f"{url} leads elsewhere: {said}.", remedy)
        return RemoteError(f"git could not read {url}: {said}.", "Check the URL, the network and the remote.")


class GitRunner:
    """Starts git with an environment of its own.

    :param home: an empty directory to be git's HOME.
    :param allowed_schemes: what git may speak besides https and ssh.
    :param credentials: for the remotes; None leaves it to the machine's credential helper.
    :param timeout: seconds that one command may take.
    """

    def __init__(
        self, home: Path, *, allowed_schemes: Collection[str], credentials: Login | None, timeout: float
    ) -> None:
        self._home = home
        self._allowed_schemes = allowed_schemes
        self._credentials = credentials
        self._timeout = timeout
        self._machine_config: tuple[tuple[str, str], ...] | None = None
        self._git: git.Git | None = None

    def run(
        self,
        repository: Path | None,
        arguments: Sequence[str],
        *,
        remote: Remote | None = None,
        stdin: bytes = b"",
        keep_open: Sequence[int] = (),
        index: Path | None = None,
    ) -> bytes:
        """Run one command to its end and return what it printed.

        :param repository: bare repository, or None.
        :param remote: makes ``origin`` known; without it git cannot reach anything.
        :param keep_open: file descriptors to hand down: a lock is held as long as git lives.
        :param index: file to be git's index.
        :raises CommandFailed: another status than 0.
        :raises RemoteError: no end within the timeout; the whole process group is gone then.
        """
        access = self._access(remote) if index is None else Access(environment={"GIT_INDEX_FILE": str(index)})
        process = self._start(repository, arguments, remote, access, keep_open)
        with _reaped(process):
            try:
                output, errors = process.communicate(stdin, timeout=self._timeout)
            except subprocess.TimeoutExpired as error:
                where = remote.url if remote else "the mirror"
                what = f"git {arguments[0]} on {where} took longer than {self._timeout:g} s and was stopped."
                raise RemoteError(what, "Try again, or raise the timeout.") from error
        if process.returncode:
            raise CommandFailed(process.returncode, self._redacted(errors), access.remedy)
        return bytes(output)

    @contextlib.contextmanager
    def open(self, repository: Path, arguments: Sequence[str]) -> Iterator[Any]:
        """Run a local command to talk to through its ``stdin`` and ``stdout``; it is gone afterwards."""
        process = self._start(repository, arguments, None, NOTHING, ())
        with _reaped(process):
            yield process

    def _redacted(self, text: bytes) -> str:
        return redact(text.decode("utf-8", "replace"), self._credentials.secrets() if self._credentials else ())

    def _start(
        self,
        repository: Path | None,
        arguments: Sequence[str],
        remote: Remote | None,
        access: Access,
        keep_open: Sequence[int],
    ) -> Any:
        runner = self._runner()
        machine_config = self._from_machine() if remote else ()
        variables = environment(self._home, self._allowed_schemes, machine_config, remote, access)
        # GitPython adds to the environment it inherits and cannot take away from it; env(1) can.
        for_helper = remote is not None and not (self._credentials and remote.is_ours) and self._has_helper()
        dropped = [name for name in os.environ if name not in variables and not is_kept(name, for_helper)]
        # A git that outlives us, and that its remote keeps waiting, would hold a mirror's lock for ever.
        timeout = shutil.which("timeout")  # of coreutils, which macOS does not have
        bound = [timeout, "--signal=KILL", f"{self._timeout + _GRACE:g}"] if remote and timeout else []
        if remote and remote.largest:
            bound = [*_LIMITED, str(remote.largest // 512), *bound]
        command = ["env", *(f"-u{name}" for name in dropped), *access.command, *bound]
        command.append(str(runner.GIT_PYTHON_GIT_EXECUTABLE))
        if repository is not None:
            command.append(f"--git-dir={repository}")
        return runner.execute(
            [*command, *arguments],
            istream=subprocess.PIPE,
            as_process=True,
            env=variables,
            start_new_session=True,
            pass_fds=tuple(keep_open),
        )

    def _runner(self) -> git.Git:
        if self._git is None:
            try:
                import git
            except ImportError as error:  # GitPython's way to say that there is no git
                raise GitError(f"git cannot be run: {error}", "Install git 2.39 or newer on the worker.") from error
            runner = git.Git(str(self._home))
            if runner.version_info[:2] < _OLDEST:
                found = ".".join(map(str, runner.version_info))
                raise GitError(f"git {found} is too old.", "Install git 2.39 or newer on the worker.")
            self._git = runner
        return self._git

    def _access(self, remote: Remote | None) -> Access:
        if remote is None:
            return NOTHING
        return access_for(self._credentials if remote.is_ours else None, remote.url, self._home)

    def _has_helper(self) -> bool:
        """Whether the machine's own credential helper acts."""
        return any(value for key, value in self._from_machine() if key.endswith(".helper"))

    def _from_machine(self) -> tuple[tuple[str, str], ...]:
        """The few settings of the worker's own git configuration that act."""
        if self._machine_config is None:
            runner = self._runner()
            git_alone = ["env", "-uGIT_DIR", str(runner.GIT_PYTHON_GIT_EXECUTABLE), "-C", "/"]
            arguments = ["config", "-z", "--includes", "--get-regexp", COPIED_CONFIG]
            process: Any = runner.execute([*git_alone, *arguments], as_process=True, start_new_session=True)
            with _reaped(process):
                output, _ = process.communicate(timeout=self._timeout)
            lines = (line.partition("\n") for line in output.decode("utf-8", "surrogateescape").split("\0") if line)
            self._machine_config = tuple((key, with_home(key, value)) for key, _, value in lines)
        return self._machine_config


@contextlib.contextmanager
def _reaped(process: Any) -> Iterator[None]:
    """Leave no git behind, whatever ends the block: the process leads a group of its own."""
    try:
        yield
    finally:
        if process.poll() is None:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(process.pid, signal.SIGKILL)
        for stream in (process.stdin, process.stdout, process.stderr):
            if stream is not None:
                with contextlib.suppress(BrokenPipeError):
                    stream.close()
        process.proc.wait()
