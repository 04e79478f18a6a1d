"""``airflow-sm-git demo`` as a newcomer meets it: a fresh home, an empty environment, and lines to copy."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import pytest

from airflow_sm_git.demo.repository import make_repository

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

PROGRAM = Path(sys.executable).with_name("airflow-sm-git")


@dataclass(frozen=True)
class Home:
    """A user's home directory, and a folder for temporary files beside it."""

    path: Path

    @property
    def environment(self) -> dict[str, str]:
        """All that programs get to know."""
        return {"PATH": os.environ["PATH"], "HOME": str(self.path), "TMPDIR": str(self.temporary), "TERM": "dumb"}

    @property
    def temporary(self) -> Path:
        """For temporary files."""
        return self.path.with_name("tmp")

    def demo(self, *options: str, status: int = 0, **environment: str) -> str:
        """Run the demo; what it printed."""
        done = self._run([PROGRAM, "demo", *options], **environment)
        assert done.returncode == status, done.stdout
        return done.stdout

    def shell(self, *lines: str) -> str:
        """Run lines as if they were pasted into a shell; what they printed."""
        done = self._run(["bash", "-e", "-c", "\n".join(lines)])
        assert done.returncode == 0, done.stdout
        return done.stdout

    def _run(self, command: list[Any], **more: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            command,
            env={**self.environment, **more},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
            cwd=self.path,
        )

    def processes(self) -> list[list[str]]:
        """The command lines of the processes that this home's programs have left."""
        return [each.cmdline() for each in psutil.process_iter() if _home_of(each) == str(self.path)]

    def files(self) -> set[str]:
        """Where anything lies: relative to the home, two levels deep, and all that is temporary."""
        found = [*self.path.glob("*"), *self.path.glob("*/*"), *self.temporary.glob("*")]
        return {str(path.relative_to(self.path.parent)) for path in found}


def _home_of(process: psutil.Process) -> str | None:
    try:
        return process.environ().get("HOME") if process.status() != psutil.STATUS_ZOMBIE else None
    except psutil.Error:
        return None


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Home]:
    """One home for all tests, since the demo promises to find again what it has left."""
    made = Home(tmp_path_factory.mktemp("newcomer") / "home")
    made.path.mkdir()
    made.temporary.mkdir()
    yield made
    subprocess.run([PROGRAM, "local", "stop"], env=made.environment, check=False, capture_output=True)
    assert made.processes() == []


@pytest.fixture(scope="module")
def first(home: Home) -> str:
    """What the first demo printed."""
    return home.demo()


def lines_after(heading: str, text: str) -> list[str]:
    """The indented lines below a heading."""
    _, found, rest = text.partition(f"{heading}\n")
    assert found, text
    block = re.match(r"(    .*\n)+", rest)
    assert block, text
    return [line.strip() for line in block[0].splitlines()]


def fact(name: str, text: str) -> str:
    """A line of the summary."""
    match = re.search(rf"^{name} +(.*)$", text, re.MULTILINE)
    assert match, text
    return match[1]


def requests(home: Home) -> str:
    """What the local SageMaker was asked."""
    return (home.path / ".airflow-sm-git" / "local" / "requests.log").read_text()


def test_the_demo_prints_text_from_an_endpoint_that_no_longer_exists(first: str, home: Home, tmp_path: Path) -> None:
    assert fact("commit", first).startswith(make_repository(tmp_path / "same").head.sha)
    perplexities = [int(number) for number in re.findall(r"\d+", fact("perplexity", first))]
    assert perplexities[0] < min(perplexities[1:])
    endpoint = fact("endpoint", first).split()[0]
    answer = first.partition("answered:\n\n")[2].partition("\n\n")[0]
    assert len(answer.split()) > 60
    assert re.search(rf'"DeleteEndpoint", "resource": "{endpoint}", "status": 200', requests(home))
    gone = home.shell(*lines_after("Try next:", first)[:1], f"airflow-sm-git sweep --endpoint {endpoint} 2>&1 || true")
    assert f"There is no endpoint '{endpoint}'" in gone
    home.shell(f"{PROGRAM} local stop")


def test_nothing_is_left_but_what_the_summary_names(first: str, home: Home) -> None:
    assert home.processes() == []
    assert home.files() == {"home/.airflow-sm-git", "home/.airflow-sm-git/demo", "home/.airflow-sm-git/local"}
    for place in ("demo", "local"):
        assert str(home.path / ".airflow-sm-git" / place) in first


def test_the_lines_to_try_next_work(first: str, home: Home) -> None:
    lines = lines_after("Try next:", first)
    standalone = next(number for number, line in enumerate(lines) if line.startswith("airflow standalone"))
    tried = [*lines[:standalone], "airflow dags list --output plain", *lines[standalone + 1 :]]

    printed = home.shell(*tried)

    assert "Learn by Adam" in printed
    assert re.search(r"^quickstart\s", printed, re.MULTILINE)
    assert printed.rstrip().endswith("Stopped.")
    assert home.processes() == []


def test_a_second_demo_uses_everything_again_and_a_kept_endpoint_goes_by_the_lines_it_prints(
    first: str, home: Home
) -> None:
    second = home.demo("--conf", '{"policy": "never", "epochs": 1}', COLUMNS="60")

    log = (home.path / ".airflow-sm-git" / "demo" / "airflow.log").read_text()
    assert "Creating Airflow database tables" not in log
    assert fact("digest", second).split()[0] == fact("digest", first).split()[0]
    endpoint = fact("endpoint", second).split()[0]
    assert max(len(line) for line in second.partition("answered:")[2].partition("time ")[0].splitlines()) <= 60
    assert home.processes() != []

    removed = home.shell(*lines_after("Remove it with:", second))

    assert f"deleted Endpoint {endpoint}" in removed
    assert home.processes() == []


@pytest.mark.parametrize(
    ("conf", "told"),
    [
        ('{"ref": "nope"}', ["checkout", "FAILED", "has no branch, tag or commit", "'nope'"]),
        ('{"epochs": 0}', ["epochs: 0 is less than the minimum of 1"]),
    ],
)
def test_a_demo_that_fails_says_what_and_why_and_leaves_nothing_running(
    first: str, home: Home, conf: str, told: list[str]
) -> None:
    printed = home.demo("--conf", conf, status=1)

    assert "The demo failed." in printed
    assert [text for text in told if text not in " ".join(printed.split())] == []  # lines are folded
    assert "Traceback" not in printed
    assert str(home.path / ".airflow-sm-git" / "demo" / "airflow.log") in printed
    assert home.processes() == []


def test_a_conf_that_is_no_json_object_is_refused_before_anything_starts(home: Home) -> None:
    assert "is not JSON" in home.demo("--conf", "epochs=3", status=2)
    assert "is not a JSON object" in home.demo("--conf", "3", status=2)


@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_demo_leaves_nothing_running_and_names_what_lies_there(
    first: str, home: Home, signum: signal.Signals
) -> None:
    process = subprocess.Popen(
        [PROGRAM, "demo"],
        env=home.environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        # What a shell starts in the background ignores it, and so does all that comes of that.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    assert process.stdout is not None
    printed = ""
    while "package" not in printed:  # the training job runs from here on
        line = process.stdout.readline()
        assert line, printed
        printed += line
    time.sleep(1)
    process.send_signal(signum)
    printed += process.communicate(timeout=120)[0]

    assert process.returncode == 130, printed
    assert "Interrupted." in printed
    assert "Traceback" not in printed
    assert lines_after("On your disk is what the next run uses again. To remove it:", printed)
    assert home.processes() == []


def test_the_line_that_removes_everything_removes_everything(first: str, home: Home) -> None:
    home.shell(*lines_after("On your disk is what the next run uses again. To remove it:", first))

    assert home.processes() == []
    assert home.files() == {"home/.airflow-sm-git"}
