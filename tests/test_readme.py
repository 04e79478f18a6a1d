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
from tests.airflow_runner import Runner
from tests.git_server import Repository
from tests.snippets import CHECKOUT, Page

README = Page("README.md")
SNIPPETS, COMMANDS = README.snippets, README.commands
STEPS = {"checkout", "package", "train", "deploy", "predict", "teardown", "report"}

# Where each command of the README is run.
RUN_ELSEWHERE = {
    "make demo": "tests/end_to_end/test_fresh_clone.py",
    "make test": ".ci/run",
    "pip install .": "tests/end_to_end/test_wheel.py",
    "airflow connections add my_git --conn-type git --conn-host https://github.com/you/word-language-model "
    '--conn-password "$GIT_TOKEN"': "tests/test_docs.py",
    "airflow-sm-git sweep --endpoint NAME --delete": "tests/test_cli.py",
    "airflow-sm-git sweep": "tests/test_cli.py",
    "airflow-sm-git sweep --delete": "tests/test_cli.py",
    "airflow-sm-git sweep --delete --older-than 3d": "tests/test_cli.py",
    "airflow-sm-git trace NAME": "tests/test_cli.py",
    "airflow-sm-git trace NAME --verify": "tests/test_cli.py",
}
LOCAL = [command for command in COMMANDS if "airflow-sm-git local" in command]


@pytest.fixture
def shell(tmp_path: Path) -> Iterator[dict[str, str]]:
    """An environment with our programs on the path and a home of its own; no server is left in it."""
    yield {"PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}", "HOME": str(tmp_path)}
    daemon.stop(tmp_path / ".airflow-sm-git" / "local")


def test_every_command_is_run_somewhere() -> None:
    here = [command for command in COMMANDS if command in LOCAL or "pydoc" in command]
    assert [command for command in COMMANDS if command not in here and command not in RUN_ELSEWHERE] == []
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


def test_the_reference_can_be_read_as_it_says() -> None:
    [command] = [command for command in COMMANDS if "pydoc" in command]
    arguments = command.split()
    assert arguments.pop(0) == ".venv/bin/python"
    done = subprocess.run([sys.executable, *arguments], cwd=CHECKOUT, capture_output=True, text=True, timeout=120)
    assert "class TrainOperator" in done.stdout
    assert ":param instance_type:" in done.stdout


def test_every_snippet_of_a_dag_loads(tmp_path: Path) -> None:
    from airflow.dag_processing.dagbag import DagBag

    names = [name for name in SNIPPETS if name.startswith("dags/")]
    assert len(names) == 2
    for name in names:
        path = tmp_path / Path(name).name
        path.write_text(SNIPPETS[name])
        bag = DagBag(path)
        assert bag.import_errors == {}
        [dag] = bag.dags.values()
        assert {task.task_id.rpartition(".")[2] for task in dag.tasks} == STEPS


def test_the_project_of_ones_own_runs_on_the_local_sagemaker(airflow: Runner, tmp_path: Path) -> None:
    files = {name: SNIPPETS[name].encode() for name in ("train.py", "serve.py")}
    Repository(tmp_path / "repository").commit(files)
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "lines.txt").write_text("short\nthe longest of all the lines\n")
    path = tmp_path / "my_project.py"
    path.write_text(SNIPPETS["dags/my_project.py"].replace("file:///path/to/", f"{tmp_path.as_uri()}/"))
    run = airflow.run(airflow.load(path, "my_project"))
    assert run.state == "success", run.errors
    report = run.xcom("train_deploy_predict.report")["indexes"]["-1"]
    assert report["training_job"]["metrics"] == {"lines": 4.0}
    assert report["prediction"]["body"] == "the longest of all t"


def test_the_table_of_settings_is_the_one_of_the_code() -> None:
    section = README.text.partition("## Settings")[2].partition("\n## ")[0]
    assert re.findall(r"^\| `(\w+)` \|", section, re.MULTILINE) == [setting.name for setting in settings.TABLE]


def test_every_file_it_links_to_is_there() -> None:
    for target in re.findall(r"\]\((?!https?:)([^)#]+)\)", README.text):
        assert (CHECKOUT / target).exists(), target
