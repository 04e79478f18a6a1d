"""A small program that stands between the server and one user's process, and lets nothing outlive it.

Run as ``python -I -S guard.py REPORT_FD [KEPT_FD ...]``; standard library only, so that it starts in about
ten milliseconds. It

- becomes the subreaper of all that its child starts, so that a ``setsid`` grandchild stays its descendant
  (prctl(2), PR_SET_CHILD_SUBREAPER);
- kills every descendant when the child has ended, as the end of a container's first process does;
- stops the child with SIGTERM, and after a grace with SIGKILL, when told so or when its standard input ends, which
  is what the server's own death looks like from here;
- gives the child, where the kernel allows it, a mount namespace in which a directory is ``/opt/ml``.

Conversation, server to guard on standard input (every message is 8 digits of length, then the body, whose
fields are separated by NUL): ``mount DIR SCRATCH`` (DIR empty: no mount), ``run CWD ORPHAN_GRACE ARGC ARGV...
NAME=VALUE...``, ``stop GRACE``. Guard to server on REPORT_FD, one line each: ``mounted 0|1``, ``started PID``,
``error TEXT``, ``exit STATUS SIGNAL``.

On a system without subreapers (macOS) the child's process group, and what ``ps`` shows below it, are ended: best
effort.
"""

from __future__ import annotations

import ctypes
import os
import select
import signal
import sys
import time

PR_SET_PDEATHSIG, PR_SET_CHILD_SUBREAPER = 1, 36
CLONE_NEWNS, CLONE_NEWUSER = 0x00020000, 0x10000000
MS_BIND, MS_REC, MS_PRIVATE = 4096, 16384, 1 << 18
LINUX = sys.platform.startswith("linux")
OPT, OPT_ML = "/opt", "/opt/ml"
HEADER = 8


def libc_call(name: str, *arguments: object) -> None:
    """Call a function of the C library.

    :raises OSError: it returned something other than 0.
    """
    if getattr(LIBC, name)(*arguments) != 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{name}: {os.strerror(number)}")


LIBC = ctypes.CDLL(None, use_errno=True)


def mount(source: str, target: str, kind: str, flags: int) -> None:
    """mount(2)."""
    none = ctypes.c_void_p(None)
    libc_call("mount", source.encode(), target.encode(), kind.encode(), ctypes.c_ulong(flags), none)


def enter_private_mounts(directory: str, scratch: str) -> bool:
    """Show ``directory`` as ``/opt/ml`` to this process and its children only.

    :param scratch: an existing empty directory, used as a mount point while ``/opt`` is rebuilt.
    :returns: whether it worked; if not, the file system looks as before to the child.
    """
    if not LINUX or not os.path.isdir(OPT):
        return False
    user, group = os.getuid(), os.getgid()
    try:
        if user == 0:
            libc_call("unshare", CLONE_NEWNS)
        else:
            libc_call("unshare", CLONE_NEWNS | CLONE_NEWUSER)
            maps = {"setgroups": "deny", "uid_map": f"{user} {user} 1", "gid_map": f"{group} {group} 1"}
            for name, text in maps.items():
                with open(f"/proc/self/{name}", "w") as file:
                    file.write(text)
        mount("none", "/", "", MS_REC | MS_PRIVATE)
        if os.path.isdir(OPT_ML):
            mount(directory, OPT_ML, "", MS_BIND | MS_REC)
        else:
            rebuild_opt(directory, scratch)
    except OSError:
        return False
    return True


def rebuild_opt(directory: str, scratch: str) -> None:
    """Mount over ``/opt`` a copy of itself, made of bind mounts, that also has ``ml``; the host's stays as it is."""
    mount("tmpfs", scratch, "tmpfs", 0)
    for entry in os.scandir(OPT):
        place = os.path.join(scratch, entry.name)
        if entry.is_symlink():
            os.symlink(os.readlink(entry.path), place)
            continue
        if entry.is_dir():
            os.mkdir(place)
        else:
            os.close(os.open(place, os.O_CREAT | os.O_WRONLY))
        mount(entry.path, place, "", MS_BIND | MS_REC)
    place = os.path.join(scratch, "ml")
    os.mkdir(place)
    mount(directory, place, "", MS_BIND | MS_REC)
    mount(scratch, OPT, "", MS_BIND | MS_REC)


def parents() -> dict[int, int]:
    """Process id to parent's process id, of every process that can be seen."""
    if not os.path.isdir("/proc/self"):
        with os.popen("ps -A -o pid=,ppid=") as lines:  # noqa: S605  # pragma: no cover (macOS)
            return {int(pid): int(parent) for pid, parent in (line.split() for line in lines)}
    found = {}
    for name in os.listdir("/proc"):
        if name.isdigit():
            try:
                with open(f"/proc/{name}/stat", "rb") as file:
                    found[int(name)] = int(file.read().rpartition(b")")[2].split()[1])
            except OSError:
                continue  # it ended meanwhile
    return found


def descendants() -> list[int]:
    """Every process below this one."""
    children: dict[int, list[int]] = {}
    for pid, parent in parents().items():
        children.setdefault(parent, []).append(pid)
    found, todo = [], [os.getpid()]
    while todo:
        below = children.get(todo.pop(), [])
        found += below
        todo += below
    return found


def send(target: int, number: int) -> bool:
    """Send a signal to a process, or to a process group if ``target`` is negative; whether there was one."""
    try:
        os.kill(target, number)
    except (ProcessLookupError, PermissionError):
        return False
    return True


def environment(pairs: list[str]) -> dict[str, str]:
    """Variables from ``NAME=VALUE`` texts."""
    return {name: value for name, _, value in (pair.partition("=") for pair in pairs)}


class Guard:
    """The guard of one process: its child, and what it was told."""

    def __init__(self, report: int, kept: list[int]) -> None:
        self.report = report
        self.kept = kept
        self.child = 0
        self.status: int | None = None
        self.kill_at: float | None = None
        self.orphan_grace = 0.0
        self.input = b""
        self.wakeup, writer = os.pipe()
        for end in (self.wakeup, writer):
            os.set_blocking(end, False)
        signal.set_wakeup_fd(writer, warn_on_full_buffer=False)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        signal.signal(signal.SIGTERM, lambda *_: self.stop(self.orphan_grace))
        for number in (signal.SIGINT, signal.SIGHUP):
            signal.signal(number, signal.SIG_IGN)

    def say(self, text: str) -> None:
        """Report one line to the server, if it is still there."""
        try:
            os.write(self.report, f"{text}\n".encode())
        except BrokenPipeError:
            self.stop(self.orphan_grace)

    def serve(self) -> None:
        """Listen and watch until the child and all that it started are gone."""
        listening = [0, self.wakeup]
        while not self.finished():
            left = None if self.kill_at is None else max(0.02, self.kill_at - time.monotonic())
            ready = select.select(listening, [], [], left)[0]
            if self.wakeup in ready:
                os.read(self.wakeup, 4096)
            if 0 in ready and not self.hear():
                listening.remove(0)
                if not self.child:
                    return
                self.stop(self.orphan_grace)
            if self.kill_at is not None and time.monotonic() >= self.kill_at:
                send(-self.child, signal.SIGKILL)
        self.sweep()
        status = self.status or 0
        number = os.WTERMSIG(status) if os.WIFSIGNALED(status) else 0
        self.say(f"exit {128 + number if number else os.WEXITSTATUS(status)} {number}")

    def finished(self) -> bool:
        """Reap, and say whether the child has ended (when stopping: its whole process group, which had the SIGTERM)."""
        self.reap()
        if self.status is None:
            return False
        return self.kill_at is None or time.monotonic() >= self.kill_at or not send(-self.child, 0)

    def reap(self) -> bool:
        """Collect the processes that have ended; whether there are others left."""
        try:
            while True:
                pid, status = os.waitpid(-1, os.WNOHANG)
                if pid == 0:
                    return True
                if pid == self.child:
                    self.status = status
        except ChildProcessError:
            return False

    def sweep(self) -> None:
        """Kill descendants until there is none: one that forks while it is killed leaves a child to the next round."""
        give_up = time.monotonic() + 10  # a process that sleeps in the kernel, or has become another user's
        send(-self.child, signal.SIGKILL)
        while self.reap() and time.monotonic() < give_up:
            for pid in descendants():
                send(pid, signal.SIGKILL)
            select.select([self.wakeup], [], [], 0.02)

    def hear(self) -> bool:
        """Take what came on standard input, and act on the messages that are complete; False at its end."""
        data = os.read(0, 1 << 16)
        self.input += data
        while len(self.input) >= HEADER and len(self.input) >= HEADER + (size := int(self.input[:HEADER])):
            body, self.input = self.input[HEADER : HEADER + size], self.input[HEADER + size :]
            self.obey([os.fsdecode(field) for field in body.split(b"\0")])
        return bool(data)

    def obey(self, fields: list[str]) -> None:
        """Do what one message says."""
        if fields[0] == "mount":
            self.say(f"mounted {int(bool(fields[1]) and enter_private_mounts(fields[1], fields[2]))}")
        elif fields[0] == "run":
            count = 4 + int(fields[3])
            self.orphan_grace = float(fields[2])
            self.run(fields[1], fields[4:count], environment(fields[count:]))
        elif fields[0] == "stop":
            self.stop(float(fields[1]))

    def run(self, cwd: str, argv: list[str], env: dict[str, str]) -> None:
        """Start the child in a process group of its own; a failure comes back through a pipe that exec closes."""
        reader, writer = os.pipe()
        self.child = os.fork()
        if self.child == 0:
            self.become(cwd, argv, env, writer)
        for end in (writer, *self.kept):
            os.close(end)
        with os.fdopen(reader, "rb") as file:
            trouble = file.read().decode(errors="replace")
        self.say(f"error {trouble}" if trouble else f"started {self.child}")

    def become(self, cwd: str, argv: list[str], env: dict[str, str], trouble: int) -> None:
        """In the new process: turn into the user's program. Does not return."""
        try:
            os.setpgid(0, 0)
            for number in (signal.SIGINT, signal.SIGHUP, signal.SIGPIPE, signal.SIGCHLD, signal.SIGTERM):
                signal.signal(number, signal.SIG_DFL)
            if LINUX:
                LIBC.prctl(PR_SET_PDEATHSIG, signal.SIGKILL)  # should the guard itself be killed
            nothing = os.open(os.devnull, os.O_RDONLY)
            os.dup2(nothing, 0)
            os.dup2(1, 2)
            os.chdir(cwd)
            os.execvpe(argv[0], argv, env)  # noqa: S606
        except OSError as error:
            os.write(trouble, f"{error.strerror}: {error.filename or argv[0]}".encode())
        finally:
            os._exit(127)

    def stop(self, grace: float) -> None:
        """Ask the child's process group to end, and set the time at which it is killed (the earliest asked for)."""
        first = self.kill_at is None
        self.kill_at = min(self.kill_at or float("inf"), time.monotonic() + grace)
        if self.child and first:
            send(-self.child, signal.SIGTERM)


def main() -> None:
    """Guard one process; arguments are file descriptors (see the module's docstring)."""
    report, *kept = (int(argument) for argument in sys.argv[1:])
    os.set_inheritable(report, False)
    if LINUX:
        LIBC.prctl(PR_SET_CHILD_SUBREAPER, 1)
    Guard(report, kept).serve()


if __name__ == "__main__":
    main()
