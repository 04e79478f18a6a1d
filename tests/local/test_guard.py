"""Nothing that a user's program starts outlives it, nor the server."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
import textwrap
import time
from pathlib import Path

import psutil

from airflow_sm_git.local.process import Exit, GuardedProcess
from tests.local.jobs import STUBBORN, eventually, gone

ROOT = Path(__file__).parents[2]


def start(script: str) -> tuple[GuardedProcess, list[str]]:
    lines: list[str] = []
    argv = [sys.executable, "-I", "-S", "-c", script]
    return GuardedProcess.start(argv, env={"PATH": os.environ["PATH"]}, cwd="/", on_line=lines.append), lines


def pids_in(lines: list[str]) -> list[int]:
    eventually(lambda: any(line.startswith("pids") for line in lines), "the pids are printed")
    return [int(word) for word in next(line for line in lines if line.startswith("pids")).split()[1:]]


def test_stopping_leaves_neither_one_that_ignores_sigterm_nor_its_grandchild_in_another_session() -> None:
    process, lines = start(STUBBORN)
    pids = pids_in(lines)
    process.stop(0.1)
    assert process.wait(60) == Exit(137, 9)
    assert gone(*pids)


def test_death_of_the_server_leaves_neither(tmp_path: Path) -> None:
    server = tmp_path / "server.py"
    server.write_text(
        textwrap.dedent(
            f"""
            import sys, time
            from airflow_sm_git.local.process import GuardedProcess
            script = {STUBBORN!r}
            print_line = lambda line: print(line, flush=True)
            GuardedProcess.start([sys.executable, "-I", "-S", "-c", script], env={{}}, cwd="/", on_line=print_line)
            time.sleep(600)
            """
        )
    )
    command = [sys.executable, str(server)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env={"PYTHONPATH": str(ROOT)}) as popen:
        assert popen.stdout
        pids = [int(word) for word in popen.stdout.readline().split()[1:]]
        guard = psutil.Process(pids[0]).parent()
        assert guard
        popen.kill()
    eventually(lambda: gone(*pids, guard.pid), "the script, its grandchild and the guard end")


def test_the_end_of_the_program_is_the_end_of_what_it_left_in_the_background() -> None:
    process, lines = start(STUBBORN.rpartition("time.sleep")[0])
    assert process.wait(60) == Exit(0)
    assert gone(*pids_in(lines))


def test_one_that_ends_on_sigterm_can_clean_up_first() -> None:
    script = """
    import os, signal, sys, time
    def end(*_):
        os.write(1, b"cleaned up")  # not print: the signal may arrive within one
        sys.exit(5)
    signal.signal(signal.SIGTERM, end)
    print("pids", flush=True)
    time.sleep(600)
    """
    process, lines = start(textwrap.dedent(script))
    pids_in(lines)
    process.stop(60)
    assert process.wait(60) == Exit(5)
    assert lines[-1] == "cleaned up"


def test_a_shell_that_ends_at_once_does_not_take_the_grace_from_its_child() -> None:
    inner = (
        "import os, signal, sys, time; "
        "signal.signal(15, lambda *_: (time.sleep(0.3), os.write(1, b'saved'), sys.exit())); "
        "print('pids', flush=True); time.sleep(600)"
    )
    lines: list[str] = []
    argv = ["/bin/sh", "-c", f'{sys.executable} -I -S -c "{inner}"; true']
    process = GuardedProcess.start(argv, env={"PATH": os.environ["PATH"]}, cwd="/", on_line=lines.append)
    pids_in(lines)
    process.stop(60)
    assert process.wait(60)
    assert lines[-1] == "saved"


def test_a_second_stop_can_shorten_the_grace_and_not_lengthen_it() -> None:
    process, lines = start(STUBBORN)
    pids_in(lines)
    process.stop(600)
    process.stop(0.1)
    process.stop(600)
    assert process.wait(60) == Exit(137, 9)


def test_processes_that_multiply_while_they_are_killed_are_all_killed() -> None:
    script = """
    import os, time
    print("pids", os.getpid(), flush=True)
    def hop(until):
        os.setsid()
        while time.monotonic() < until:  # a process that lives on by forking, always in a new session
            if os.fork():
                os._exit(0)
            os.setsid()
            open("/proc/self/comm", "w").write("sm-git-hopper")
        os._exit(0)
    for _ in range(3):
        if not os.fork():
            hop(time.monotonic() + 20)
    time.sleep(600)
    """
    process, lines = start(textwrap.dedent(script))
    pids_in(lines)
    process.stop(0.2)
    assert process.wait(60)
    assert not [p.pid for p in psutil.process_iter(["name"]) if p.info["name"] == "sm-git-hopper"]


def test_killing_the_guard_itself_kills_the_program() -> None:
    process, lines = start("import os, time; print('pids', os.getpid(), flush=True); time.sleep(600)")
    (pid,) = pids_in(lines)
    guard = psutil.Process(pid).parent()
    assert guard
    guard.send_signal(signal.SIGKILL)
    assert process.wait(60) == Exit(137, 9)
    eventually(lambda: gone(pid), "the program ends")


def test_the_guard_gives_the_rest_of_its_descendants_no_time_after_a_normal_end() -> None:
    began = time.monotonic()
    process, _ = start("import os\nif not os.fork():\n    os.setsid(); import time; time.sleep(600)")
    assert process.wait(60) == Exit(0)
    assert time.monotonic() - began < 30


def test_a_user_without_privileges_gets_a_private_opt_ml_through_a_user_namespace(tmp_path: Path) -> None:
    """Tried as another user where that is possible (as root), else as whoever runs the tests."""
    script = """
    import ctypes, os, sys
    from airflow_sm_git.local import guard
    if os.getuid() == 0:
        os.chown(sys.argv[1], 65534, 65534)
        os.chdir(sys.argv[1])
        os.setgroups([])
        os.setgid(65534)
        os.setuid(65534)
        guard.LIBC.prctl(4, 1)  # PR_SET_DUMPABLE, which changing user clears: /proc/self is its own again
    before = sorted(os.listdir("/opt"))
    os.mkdir("ml")
    os.mkdir("scratch")
    print(guard.enter_private_mounts(os.path.join(sys.argv[1], "ml"), os.path.join(sys.argv[1], "scratch")))
    open("/opt/ml/file", "w").close()
    print(sorted(os.listdir("/opt")) == sorted({*before, "ml"}), os.listdir("/opt/ml"))
    """
    with tempfile.TemporaryDirectory() as place:  # tmp_path's parents are closed to others
        command = [sys.executable, "-c", textwrap.dedent(script), place]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    if sys.platform == "linux":
        assert (done.stdout, done.stderr) == ("True\nTrue ['file']\n", "")


def test_where_namespaces_are_refused_the_program_still_starts(tmp_path: Path) -> None:
    """A scratch directory that does not exist is as good as a kernel that says no."""
    (own := tmp_path / "ml").mkdir()
    script = f"from airflow_sm_git.local import guard; print(guard.enter_private_mounts({str(own)!r}, '/no/such'))"
    done = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"
