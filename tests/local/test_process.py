"""Programs run behind a guard: what they are given, what comes back."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

import psutil
import pytest

from airflow_sm_git.local.process import (
    LONGEST_LINE,
    Exit,
    GuardedProcess,
    ProcessError,
    base_environment,
    relocate,
)
from tests.local.jobs import eventually, gone


def run(argv: list[str], **options: Any) -> tuple[Exit | None, list[str]]:
    lines: list[str] = []
    settings = {"env": {"PATH": os.environ["PATH"]}, "cwd": "/", **options}
    end = GuardedProcess.start(argv, on_line=lines.append, **settings).wait(60)
    return end, lines


def python(script: str, **options: Any) -> tuple[Exit | None, list[str]]:
    return run([sys.executable, "-I", "-S", "-c", script], **options)


def test_all_lines_come_in_order_before_wait_returns_and_the_last_needs_no_newline() -> None:
    end, lines = python("import os\nfor i in range(3000): print(i)\nos.sys.stdout.flush(); os.write(2, b'last')")
    assert end == Exit(0)
    assert lines == [*map(str, range(3000)), "last"]


def test_the_exit_code_is_reported() -> None:
    assert python("raise SystemExit(7)")[0] == Exit(7)


def test_a_signal_is_reported_with_the_code_that_docker_gives_it() -> None:
    assert python("import os; os.kill(os.getpid(), 11)")[0] == Exit(139, 11)


def test_output_that_is_not_utf8_does_not_end_the_reading() -> None:
    end, lines = python("import os; os.write(1, b'\\xff\\xfe\\nfine\\n')")
    assert end == Exit(0)
    assert lines[1] == "fine"


def test_a_line_longer_than_a_log_event_comes_in_pieces() -> None:
    _, lines = python(f"print('x' * {3 * LONGEST_LINE + 10}); print('short')")
    assert max(len(line) for line in lines) <= LONGEST_LINE
    assert "".join(lines) == "x" * (3 * LONGEST_LINE + 10) + "short"
    assert lines[-1] == "short"


def test_empty_lines_are_lines() -> None:
    assert python("print(); print('a'); print()")[1] == ["", "a", ""]


def test_a_missing_program_is_an_error_that_names_it() -> None:
    with pytest.raises(ProcessError, match=r"'/no/such/program'.*No such file"):
        run(["/no/such/program"])


def test_a_missing_working_directory_is_an_error_that_names_it() -> None:
    with pytest.raises(ProcessError, match="/no/such/folder"):
        run(["/bin/true"], cwd="/no/such/folder")


def test_an_argument_with_a_nul_character_is_refused() -> None:
    with pytest.raises(ProcessError, match="NUL"):
        run(["/bin/echo", "a\0b"])
    with pytest.raises(ProcessError, match="NUL"):
        run(["/bin/echo"], env={"A": "\0"})


def test_what_cannot_be_started_leaves_no_process() -> None:
    before = len(psutil.Process().children())
    with pytest.raises(ProcessError):
        run(["/no/such/program"])
    with pytest.raises(ProcessError, match="Argument list too long"):
        run(["/bin/echo", "x" * 3_000_000])
    assert len(psutil.Process().children()) == before


def test_the_environment_is_what_was_given_and_nothing_else() -> None:
    _, lines = run(["/usr/bin/env"], env={"A": "1\n2", "B": "x=y", "EMPTY": ""})
    assert sorted(lines) == ["2", "A=1", "B=x=y", "EMPTY="]


def test_arguments_arrive_as_they_are() -> None:
    arguments = ["", "a b", "ü\udcff", "--x=$HOME", "'\"\n"]
    _, lines = run([sys.executable, "-I", "-c", "import sys; print(ascii(sys.argv[1:]))", *arguments])
    assert lines == [ascii(arguments)]


def test_standard_input_is_empty() -> None:
    assert run(["/bin/cat"]) == (Exit(0), [])


def test_a_program_sees_its_directory_as_opt_ml_and_the_host_does_not(tmp_path: Path) -> None:
    (own := tmp_path / "ml").mkdir()
    (own / "file").write_text("mine")
    before = sorted(os.listdir("/opt"))
    script = "cat /opt/ml/file; pwd; echo more > /opt/ml/written; ls /opt"
    end, lines = run(["/bin/sh", "-c", script], opt_ml=own, cwd="/opt/ml")
    assert end == Exit(0)
    assert lines[0] in ("mine/opt/ml", f"mine{own}")
    assert (own / "written").read_text() == "more\n"
    assert sorted(os.listdir("/opt")) == before
    assert set(before) <= set(lines[1:])


def test_without_a_private_opt_ml_its_paths_are_rewritten_everywhere(tmp_path: Path) -> None:
    (own := tmp_path / "ml").mkdir()
    argv = ["/bin/sh", "-c", 'echo "$1"; pwd; echo $V', "sh", "--dir=/opt/ml/model"]
    end, lines = run(argv, opt_ml=own, cwd="/opt/ml", env={"V": '["/opt/ml"]'}, mounts=False)
    assert (end, lines) == (Exit(0), [f"--dir={own}/model", str(own), f'["{own}"]'])


@pytest.mark.parametrize(
    ("text", "moved"),
    [
        ("/opt/ml", "/new"),
        ("/opt/ml/", "/new/"),
        ('{"a":"/opt/ml/x","b":"/opt/ml"}', '{"a":"/new/x","b":"/new"}'),
        ("/opt/ml2 /opt/ml-x /opt/ml.d", "/opt/ml2 /opt/ml-x /opt/ml.d"),
        ("/opt/ml:/opt/ml/code", "/new:/new/code"),
    ],
)
def test_only_paths_at_or_below_opt_ml_are_rewritten(text: str, moved: str) -> None:
    assert relocate(text, Path("/new")) == moved


def test_the_base_environment_is_an_allow_list(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("AIRFLOW__CORE__FERNET_KEY", "AWS_SECRET_ACCESS_KEY", "GITHUB_TOKEN", "PYTHONPATH", "VIRTUAL_ENV"):
        monkeypatch.setenv(name, "secret")
    monkeypatch.setenv("SSL_CERT_FILE", "/certificates")
    monkeypatch.setenv("HOME", "/home/user")
    environment = base_environment("/job/home", "/job/tmp")
    assert "secret" not in environment.values()
    assert environment["HOME"] == "/job/home"
    assert environment["TMPDIR"] == "/job/tmp"
    assert environment["SSL_CERT_FILE"] == "/certificates"


def test_wait_gives_nothing_while_the_program_runs() -> None:
    process = GuardedProcess.start(["/bin/sleep", "600"], env={}, cwd="/", on_line=print)
    assert process.wait(0.01) is None
    process.stop(30)
    assert process.wait(60) == Exit(143, 15)
    process.stop(30)  # nothing happens


def test_a_reader_that_fails_ends_the_program_and_is_not_hidden() -> None:
    def broken(line: str) -> None:
        raise RuntimeError(line)

    script = "while True: print('x' * 5000, flush=True)"
    process = GuardedProcess.start([sys.executable, "-I", "-c", script], env={}, cwd="/", on_line=broken)
    end = process.wait(60)
    assert end
    assert end.code != 0
    assert isinstance(process.failure, RuntimeError)


def test_a_program_that_freezes_its_guard_is_ended_all_the_same() -> None:
    script = """
import os, signal, subprocess, sys, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
child = subprocess.Popen(["sleep", "600"], start_new_session=True)
print(os.getpid(), child.pid, flush=True)
while True:
    os.kill(os.getppid(), signal.SIGSTOP)
    time.sleep(0.001)
"""
    lines: list[str] = []
    argv = [sys.executable, "-I", "-c", script]
    process = GuardedProcess.start(argv, env={"PATH": os.environ["PATH"]}, cwd="/", on_line=lines.append)
    eventually(lambda: bool(lines), "its pids")
    process.stop(0.1)
    assert process.wait(60) == Exit(137, 9)
    assert gone(process.pid, *map(int, lines[0].split()))


def test_a_guard_that_was_frozen_once_ends_its_program_and_reports() -> None:
    script = "import os, signal, time; os.kill(os.getppid(), signal.SIGSTOP); print('up', flush=True); time.sleep(600)"
    lines: list[str] = []
    process = GuardedProcess.start([sys.executable, "-I", "-c", script], env={}, cwd="/", on_line=lines.append)
    eventually(lambda: bool(lines), "its line")
    process.stop(0.1)
    assert process.wait(60) is not None
    assert gone(process.pid)
