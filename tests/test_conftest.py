"""The skip check, tried on a small suite of its own."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

CHECKOUT = Path(__file__).resolve().parent.parent
SUITE = """
import os
import pytest

def test_passes():
    assert "AWS_PROFILE" not in os.environ

def test_is_skipped():
    pytest.skip("for no good reason")

@pytest.mark.parametrize("number", [1, 2])
@pytest.mark.xfail
def test_fails_as_expected(number):
    assert False
"""


def run(folder: Path, allowed: str) -> tuple[int, str]:
    """Run the small suite under our conftest.

    :param allowed: the list of allowed skips.
    :returns: pytest's exit code and what it printed.
    """
    shutil.copy(Path(__file__).with_name("conftest.py"), folder)
    (folder / "pytest.ini").write_text("[pytest]\n")
    (folder / "test_small.py").write_text(SUITE)
    (folder / "allowed.txt").write_text(allowed)
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "--allowed-skips=allowed.txt"]
    environment = {"AWS_PROFILE": "production", "PATH": "", "PYTHONPATH": str(CHECKOUT), "PYTHONDONTWRITEBYTECODE": "1"}
    done = subprocess.run(
        command, cwd=folder, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    return done.returncode, done.stdout


def test_a_skip_nobody_agreed_to_fails_the_run_and_is_named(tmp_path: Path) -> None:
    code, output = run(tmp_path, "test_small.py::test_fails_as_expected  # known\n")
    assert code == pytest.ExitCode.TESTS_FAILED
    assert "test_small.py::test_is_skipped\n" in output
    assert "test_small.py::test_fails_as_expected[1]\n" not in output


def test_skips_on_the_list_pass(tmp_path: Path) -> None:
    code, output = run(tmp_path, "# a comment\n\ntest_small.py  # the whole file\n")
    assert code == pytest.ExitCode.OK, output


def test_an_entry_without_a_reason_is_refused(tmp_path: Path) -> None:
    code, output = run(tmp_path, "test_small.py\n")
    assert code == pytest.ExitCode.USAGE_ERROR
    assert "gives no reason" in output
