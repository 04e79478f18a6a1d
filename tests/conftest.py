"""What holds for every test: an Airflow home of the run's own, no account of the caller's, no skip nobody agreed to."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterable
from pathlib import Path

import pytest

pytest_plugins = ["tests.airflow_runner"]

# Before any test module is imported: importing Airflow reads its variables and writes into its home.
for _name in [name for name in os.environ if name.startswith(("AIRFLOW_", "AWS_"))]:
    del os.environ[_name]
_HOME = tempfile.mkdtemp(prefix="airflow-sm-git-tests-")
os.environ["AIRFLOW_HOME"] = _HOME
os.environ["AIRFLOW__CORE__LOAD_EXAMPLES"] = "False"
# A test that forgets its endpoint must fail at once, not find the developer's account.
os.environ["AWS_CONFIG_FILE"] = os.environ["AWS_SHARED_CREDENTIALS_FILE"] = os.devnull
os.environ["AWS_EC2_METADATA_DISABLED"] = "true"


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add ``--allowed-skips``."""
    parser.addoption("--allowed-skips", type=Path, metavar="FILE", help="fail on a skip that FILE does not name")


def pytest_configure(config: pytest.Config) -> None:
    """Start the skip check if it is asked for."""
    path = config.getoption("--allowed-skips")
    if path is not None:
        config.pluginmanager.register(SkipCheck(allowed_skips(path.read_text())), "skip-check")


def pytest_unconfigure() -> None:
    """Leave no file behind."""
    shutil.rmtree(_HOME, ignore_errors=True)


def allowed_skips(text: str) -> list[str]:
    """Read the list of allowed skips.

    :param text: lines of ``ID  # REASON``; empty lines and lines of comment are passed over.
    :returns: the ids.
    :raises pytest.UsageError: when a line gives no reason.
    """
    ids = []
    for line in text.splitlines():
        if not line.strip() or line.startswith("#"):
            continue
        name, _, reason = line.partition("  # ")
        if not reason.strip():
            raise pytest.UsageError(f"allowed skips: {line!r} gives no reason; write it as 'ID  # REASON'")
        ids.append(name.strip())
    return ids


class SkipCheck:
    """Turns skips and expected failures that nobody agreed to into a failed run.

    :param allowed: ids of tests, of tests without their parameters, or of files.
    """

    def __init__(self, allowed: Iterable[str]) -> None:
        self.allowed = tuple(allowed)
        self.surprises: list[str] = []

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Note a test that was skipped, or failed as expected."""
        self._note(report)

    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        """Note a whole file that was skipped."""
        self._note(report)

    def _note(self, report: pytest.TestReport | pytest.CollectReport) -> None:
        node = report.nodeid
        if report.skipped and not any(
            node == name or node.startswith((f"{name}[", f"{name}::")) for name in self.allowed
        ):
            self.surprises.append(node)

    @pytest.hookimpl(tryfirst=True)
    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        """Fail the run."""
        if self.surprises:
            session.exitstatus = pytest.ExitCode.TESTS_FAILED

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        """Say which."""
        if self.surprises:
            terminalreporter.section("skipped, and not on the list of allowed skips", red=True)
            for node in self.surprises:
                terminalreporter.line(node)
