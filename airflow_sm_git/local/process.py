"""A user's program, run as a process that cannot outlive the server nor leave anything behind (see ``guard``)."""

from __future__ import annotations

import os
import re
import selectors
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import psutil

from airflow_sm_git.local import guard

ORPHAN_GRACE = 2.0
"""Seconds between SIGTERM and SIGKILL when the server itself has died."""
SILENCE = 1.0, 3.0
"""Seconds after the grace at which a guard that has not reported is woken (SIGCONT), and then killed with all below."""
LONGEST_LINE = 256 * 1024 - 26
"""Bytes of the largest log event (CloudWatch Logs API reference, PutLogEvents: 256 KB less 26 bytes)."""
PASSED_ON = [
    "PATH",
    "LANG",
    "LC_ALL",
    "LC_CTYPE",
    "TZ",
    "SSL_CERT_FILE",
    "SSL_CERT_DIR",
    "REQUESTS_CA_BUNDLE",
    "CURL_CA_BUNDLE",
    "AWS_CA_BUNDLE",
    "PIP_CERT",
    "HTTP_PROXY",
    "HTTPS_PROXY",
    "NO_PROXY",
    "ALL_PROXY",
    "http_proxy",
    "https_proxy",
    "no_proxy",
    "all_proxy",
    "LD_LIBRARY_PATH",
]
_OPT_ML = re.compile(r"/opt/ml(?![\w.-])")


@dataclass(frozen=True)
class Exit:
    """How a process ended.

    :param code: exit code; 128 + signal number if a signal ended it, as a shell and Docker count.
    :param signal: number of the signal that ended it, or None.
    """

    code: int
    signal: int | None = None


class ProcessError(Exception):
    """A program could not be started; the text says which and why."""


class _Lines:
    """Cuts bytes into lines of at most :data:`LONGEST_LINE` and hands them on."""

    def __init__(self, on_line: Callable[[str], None]) -> None:
        self._on_line = on_line
        self._rest = b""

    def feed(self, data: bytes) -> None:
        """Take more bytes; none at all ends the last line."""
        *lines, self._rest = (self._rest + data).split(b"\n")
        if self._rest and (not data or len(self._rest) >= LONGEST_LINE):
            lines.append(self._rest)
            self._rest = b""
        for line in lines:
            for start in range(0, max(1, len(line)), LONGEST_LINE):
                self._on_line(line[start : start + LONGEST_LINE].decode(errors="replace"))


class GuardedProcess:
    """One running program. Made by :meth:`start`."""

    def __init__(self, popen: subprocess.Popen[bytes], report: IO[bytes], private: bool) -> None:
        self.private = private
        """Whether the program sees its directory as ``/opt/ml``."""
        self.pid = 0
        """The program's process id, in the server's own numbering."""
        self.failure: Exception | None = None
        """What ``on_line`` raised, if it did: the program was then stopped."""
        self._popen = popen
        self._report = report
        self._exit: Exit | None = None
        self._ended = threading.Event()
        self._sending = threading.Lock()

    @classmethod
    def start(
        cls,
        argv: Sequence[str],
        *,
        env: Mapping[str, str],
        cwd: str | Path,
        opt_ml: Path | None = None,
        on_line: Callable[[str], None],
        keep: Sequence[int] = (),
        mounts: bool = True,
    ) -> GuardedProcess:
        """Start a program; returns as soon as it runs.

        :param argv: program and arguments; ``/opt/ml`` in them, in ``env`` and in ``cwd`` is rewritten to ``opt_ml``
            where the system does not allow a private ``/opt/ml``; :attr:`private` tells.
        :param env: its whole environment.
        :param cwd: its working directory.
        :param opt_ml: directory that it shall see as ``/opt/ml``.
        :param on_line: called with every line of its output (standard output and error together, without the newline),
            from one other thread, in order; all calls are over when :meth:`wait` returns.
        :param keep: file descriptors that it inherits.
        :param mounts: False to do without a private ``/opt/ml`` even where it is allowed.
        :raises ProcessError: the program could not be started.
        """
        if any("\0" in text for text in (*argv, *env, *env.values(), str(cwd))):
            raise ProcessError("an argument or variable holds a NUL character")
        reader, writer = os.pipe()
        command = [sys.executable, "-I", "-S", guard.__file__, str(writer), *(str(fd) for fd in keep)]
        try:
            popen = subprocess.Popen(
                command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                env={name: os.environ[name] for name in ("LD_LIBRARY_PATH",) if name in os.environ},
                cwd="/",
                pass_fds=(writer, *keep),
                start_new_session=True,
            )
        except OSError:
            os.close(reader)
            raise
        finally:
            os.close(writer)
        report = os.fdopen(reader, "rb")
        process = cls(popen, report, private=_mount(popen, report, opt_ml if mounts else None))
        process._launch(argv, env, str(cwd), opt_ml)
        threading.Thread(target=process._watch, args=(on_line,), name=f"output of {process.pid}", daemon=True).start()
        return process

    def stop(self, grace: float) -> None:
        """Ask the program to end: SIGTERM now, SIGKILL for all of it after ``grace`` seconds. Returns at once."""
        with suppress(BrokenPipeError, ValueError):
            self._say("stop", str(grace))
        threading.Thread(target=self._insist, args=(grace,), name=f"end of {self.pid}", daemon=True).start()

    def wait(self, timeout: float | None = None) -> Exit | None:
        """Wait until the program and everything it started are gone; None if ``timeout`` seconds passed first."""
        self._ended.wait(timeout)
        return self._exit

    def _insist(self, grace: float) -> None:
        """End the guard and all below it, should it not do so itself: the program may have frozen it (SIGSTOP)."""
        awake, dead = SILENCE
        if self._ended.wait(grace + awake):
            return
        with suppress(psutil.Error):
            guarding = psutil.Process(self._popen.pid)
            guarding.resume()
            if not self._ended.wait(dead - awake):
                _kill_all(guarding)

    def _launch(self, argv: Sequence[str], env: Mapping[str, str], cwd: str, opt_ml: Path | None) -> None:
        variables = [f"{name}={value}" for name, value in env.items()]
        fields = [cwd, str(ORPHAN_GRACE), str(len(argv)), *argv, *variables]
        if opt_ml is not None and not self.private:
            fields = [relocate(field, opt_ml) for field in fields]
        with suppress(BrokenPipeError):
            self._say("run", *fields)
        word, _, rest = self._report.readline().decode(errors="replace").rstrip("\n").partition(" ")
        if word != "started":
            self._close()
            raise ProcessError(f"cannot start {argv[0]!r} in {cwd!r}: {rest or 'its guard ended'}")
        self.pid = int(rest)

    def _say(self, *fields: str) -> None:
        _send(self._popen, *fields, lock=self._sending)

    def _watch(self, on_line: Callable[[str], None]) -> None:
        lines = _Lines(on_line)
        try:
            for data in self._read():
                if self.failure is None:
                    try:
                        lines.feed(data)
                    except Exception as error:
                        # The output is still read, so that the program does not block on it while it ends.
                        self.failure = error
                        self.stop(ORPHAN_GRACE)
        finally:
            last = self._report.readline().split()
            # A guard that was itself killed leaves no report; the kernel then killed the program (PR_SET_PDEATHSIG).
            self._exit = Exit(int(last[1]), int(last[2]) or None) if len(last) == 3 else Exit(137, 9)
            self._close()
            self._ended.set()

    def _read(self) -> Iterator[bytes]:
        """The output, until its end or the guard's (what got away may hold the pipe open for ever). Last comes b""."""
        if self._popen.stdout is None:
            raise AssertionError("the guard was started without a pipe")
        output = self._popen.stdout.fileno()
        with selectors.DefaultSelector() as selector:
            selector.register(output, selectors.EVENT_READ)
            selector.register(self._report, selectors.EVENT_READ)
            while output in {key.fd for key, _ in selector.select()} and (data := os.read(output, 1 << 16)):
                yield data
        yield b""

    def _close(self) -> None:
        with self._sending:
            for stream in (self._popen.stdin, self._popen.stdout, self._report):
                with suppress(BrokenPipeError):
                    if stream:
                        stream.close()
        self._popen.wait()


def _mount(popen: subprocess.Popen[bytes], report: IO[bytes], opt_ml: Path | None) -> bool:
    """Let a new guard show ``opt_ml`` as ``/opt/ml``; whether it could."""
    scratch = ""
    if opt_ml is not None:
        stage = opt_ml.parent / ".opt"
        stage.mkdir(exist_ok=True)
        scratch = str(stage)
    with suppress(BrokenPipeError):
        _send(popen, "mount", str(opt_ml or ""), scratch)
    return report.readline() == b"mounted 1\n"


def _kill_all(guarding: psutil.Process) -> None:
    """Kill what is below a guard until there is nothing, then the guard: it is the one to which orphans come."""
    guarding.suspend()
    for _ in range(200):
        left = []
        for child in guarding.children(recursive=True):
            with suppress(psutil.Error):
                if child.status() != psutil.STATUS_ZOMBIE:
                    left.append(child)
                    child.kill()
        if not left:
            break
        psutil.wait_procs(left, timeout=0.02)
    guarding.kill()


def _send(popen: subprocess.Popen[bytes], *fields: str, lock: threading.Lock | None = None) -> None:
    """Send a guard one message.

    :raises BrokenPipeError: the guard has ended.
    """
    body = "\0".join(fields).encode(errors="surrogateescape")
    with lock or threading.Lock():
        if popen.stdin is not None:
            popen.stdin.write(b"%08d" % len(body) + body)
            popen.stdin.flush()


def relocate(text: str, opt_ml: Path) -> str:
    """``text`` with every path at or below ``/opt/ml`` moved to ``opt_ml``."""
    return _OPT_ML.sub(lambda _: str(opt_ml), text)


def base_environment(home: str, temporary: str) -> dict[str, str]:
    """The environment every user's program starts from: an allow-list, so that nothing of Airflow's gets in.

    :param home: value of ``HOME``.
    :param temporary: value of ``TMPDIR``.
    """
    kept = {name: os.environ[name] for name in PASSED_ON if name in os.environ}
    return {"PATH": os.defpath, "LANG": "C.UTF-8", **kept, "HOME": home, "TMPDIR": temporary, "PYTHONUNBUFFERED": "1"}
