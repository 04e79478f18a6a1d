"""Every fenced command and snippet of the README is run, or is what CI itself runs."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from airflow_sm_git import settings
from airflow_sm_git.local import daemon

CHECKOUT = Path(__file__).resolve().parent.parent
README = (CHECKOUT / "README.md").read_text()
BLOCKS = re.findall(r"^```(\w*)\n(.*?)^```$", README, re.MULTILINE | re.DOTALL)
COMMANDS = [line for kind, text in BLOCKS if kind == "sh" for line in text.splitlines()]

# Where each command of the README is run.
RUN_ELSEWHERE = {
    "make demo": "tests/end_to_end/test_fresh_clone.py",
    "make test": ".ci/run",
    "pip install airflow-sm-git": "tests/end_to_end/test_wheel.py",
    "airflow-sm-git sweep --endpoint NAME --delete": "tests/test_cli.py",
}
LOCAL = [command for command in COMMANDS if "airflow-sm-git local" in command]


@pytest.fixture
def shell(tmp_path: Path) -> Iterator[dict[str, str]]:
    """An environment with our programs on the path and a home of its own; no server is left in it."""
    yield {"PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}", "HOME": str(tmp_path)}
    daemon.stop(tmp_path / ".airflow-sm-git" / "local")


def test_every_command_is_run_somewhere() -> None:
    assert [command for command in COMMANDS if command not in LOCAL and command not in RUN_ELSEWHERE] == []
    for command, place in RUN_ELSEWHERE.items():
        assert command in COMMANDS
        assert (CHECKOUT / place).exists(), place


def test_the_commands_of_the_local_sagemaker_work_in_the_order_in_which_they_stand(
    shell: dict[str, str], tmp_path: Path
) -> None:
    script = "\n".join(["set -euo pipefail", *LOCAL[:2], 'echo "url=$AWS_ENDPOINT_URL"', *LOCAL[2:]])
    done = subprocess.run(["bash", "-c", script], env=shell, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "url=http://127.0.0.1:" in done.stdout
    assert "Running on http://127.0.0.1:" in done.stdout
    assert "Stopped." in done.stdout
    assert not (tmp_path / ".airflow-sm-git" / "local").exists(), "reset deletes the state"
    assert not (tmp_path / "airflow").exists(), "Airflow is not imported, so it makes no folder"


@pytest.mark.parametrize("text", [text for kind, text in BLOCKS if kind == "python"])
def test_every_snippet_is_a_dag_file_that_loads(text: str, tmp_path: Path) -> None:
    from airflow.dag_processing.dagbag import DagBag

    (tmp_path / "snippet.py").write_text(text)
    bag = DagBag(tmp_path)
    assert bag.import_errors == {}
    [dag] = bag.dags.values()
    assert [task.task_id.rpartition(".")[2] for task in dag.topological_sort()] == [
        "checkout",
        "package",
        "train",
        "deploy",
        "predict",
        "teardown",
        "report",
    ]


def test_the_table_of_settings_is_the_one_of_the_code() -> None:
    section = README.partition("## Settings")[2].partition("\n## ")[0]
    assert re.findall(r"^\| `(\w+)` \|", section, re.MULTILINE) == [setting.name for setting in settings.TABLE]


def test_every_file_it_links_to_is_there() -> None:
    for target in re.findall(r"\]\((?!https?:)([^)#]+)\)", README):
        assert (CHECKOUT / target).exists(), target
