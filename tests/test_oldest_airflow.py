"""Everything imports under the oldest Airflow we support, which has not all names that the newest has."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from tests.peer_environments import CHECKOUT, airflow_python

IMPORT_ALL = """
import importlib, pkgutil, airflow, airflow_sm_git

assert airflow.__version__ == "3.0.6", airflow.__version__
for module in pkgutil.walk_packages(airflow_sm_git.__path__, "airflow_sm_git."):
    if not module.name.endswith(".__main__"):
        importlib.import_module(module.name)
for name in airflow_sm_git._HOMES:
    getattr(airflow_sm_git, name)
"""


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_every_module_and_public_name_can_be_imported(tmp_path: Path) -> None:
    python = airflow_python("3.0.6")
    environment = {
        "AIRFLOW_HOME": str(tmp_path),
        "HOME": str(tmp_path),
        "PYTHONPATH": str(CHECKOUT),
        "PATH": "/usr/bin:/bin",
    }
    done = subprocess.run([python, "-c", IMPORT_ALL], env=environment, stderr=subprocess.PIPE, text=True)
    assert done.returncode == 0, done.stderr
