from __future__ import annotations

import ast
import itertools
from pathlib import Path

import pytest

from airflow_sm_git.demo import history
from airflow_sm_git.demo.history import STEPS, Change, Step, read_versions


def test_the_last_version_is_what_lies_in_the_package_and_every_step_changes_something() -> None:
    versions = read_versions()
    folder = Path(history.__file__).parent / "files"
    assert versions[-1] == {path.name: path.read_text() for path in folder.iterdir() if path.is_file()}
    assert len(versions) == len(STEPS)
    assert all(before != after for before, after in itertools.pairwise(versions))


def test_every_version_of_the_scripts_is_python_3_8() -> None:
    for version in read_versions():
        for name in ("train.py", "generate.py"):
            ast.parse(version[name], feature_version=(3, 8))


def test_a_change_that_does_not_fit_its_file_is_named() -> None:
    steps = [
        STEPS[0],
        Step("A <a@example.com>", "2026-01-01T00:00:00+00:00", "Why", (Change("train.py", "", "xyzzy"),)),
    ]
    with pytest.raises(ValueError, match=r"'Why' does not fit train\.py: 'xyzzy'"):
        read_versions(steps)
