"""What the demo needs on the disk: repository, data, an ``AIRFLOW_HOME`` of its own, a script to go on by hand."""

from __future__ import annotations

import os
import shlex
import sys
from dataclasses import dataclass
from importlib import resources
from pathlib import Path

from airflow_sm_git.demo.repository import Commits, make_repository, write_corpus

DAG_ID = "quickstart"
_PLUGIN = "from airflow_sm_git.demo.progress import ProgressPlugin  # noqa: F401\n"


@dataclass(frozen=True)
class Scene:
    """The demo's folder.

    :param home: everything lies below it.
    :param commits: the repository.
    """

    home: Path
    commits: Commits

    @property
    def log(self) -> Path:
        """What Airflow said."""
        return self.home / "airflow.log"

    @property
    def events(self) -> Path:
        """What the steps said."""
        return self.home / "events.jsonl"

    @property
    def script(self) -> Path:
        """The shell script that sets the demo's environment."""
        return self.home / "env.sh"

    def variables(self) -> dict[str, str]:
        """Environment variables that make Airflow the demo's."""
        return {
            "AIRFLOW_HOME": str(self.home / "airflow"),
            "AIRFLOW__API__HOST": "127.0.0.1",  # everybody is an admin, so nobody else may come in
            "AIRFLOW__CORE__DAGS_ARE_PAUSED_AT_CREATION": "False",
            "AIRFLOW__CORE__DAGS_FOLDER": str(self.home / "airflow" / "dags"),
            "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
            "AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_ALL_ADMINS": "True",
            "AIRFLOW__SM_GIT__ALLOWED_SCHEMES": "file",
            "AIRFLOW__SM_GIT__CACHE_DIR": str(self.home / "cache"),
            "SM_GIT_EXAMPLE_REPO": self.commits.url,
            "SM_GIT_EXAMPLE_DATA": (self.home / "data").as_uri() + "/",
        }


def set_up(home: Path, local_state: Path) -> Scene:
    """Make, or find, everything the demo needs.

    :param home: the demo's folder.
    :param local_state: the local SageMaker's folder, for the script.
    :raises BadParameter: something else lies there.
    """
    home.mkdir(parents=True, exist_ok=True, mode=0o700)
    scene = Scene(home, make_repository(home / "repository"))
    write_corpus(home / "data")
    airflow = home / "airflow"
    for folder in ("dags", "plugins"):
        (airflow / folder).mkdir(parents=True, exist_ok=True)
    examples = resources.files("airflow_sm_git.example_dags")
    (airflow / "dags" / "quickstart.py").write_text(examples.joinpath("quickstart.py").read_text())
    (airflow / "plugins" / "sm_git_demo_progress.py").write_text(_PLUGIN)
    scene.script.write_text(_script(scene, local_state))
    return scene


def environment(scene: Scene, aws: dict[str, str]) -> dict[str, str]:
    """The environment of the demo's Airflow: this process's own without other Airflow settings, and the demo's."""
    inherited = {key: value for key, value in os.environ.items() if not key.startswith(("AIRFLOW", "AWS_", "_AIRFLOW"))}
    return {**inherited, **aws, **scene.variables(), "SM_GIT_DEMO_EVENTS": str(scene.events)}


def _script(scene: Scene, local_state: Path) -> str:
    variables = {
        **scene.variables(),
        # Airflow can fail a task that resumes within a moment of its deferral, as jobs of seconds let it.
        "AIRFLOW__CORE__DEFAULT_TASK_RETRIES": "1",
        "AIRFLOW__CORE__DEFAULT_TASK_RETRY_DELAY": "5",
        "AIRFLOW__SM_GIT__LOCAL_STATE": str(local_state),
    }
    exports = [f"export {name}={shlex.quote(value)}" for name, value in variables.items()]
    path = f"export PATH={shlex.quote(str(Path(sys.executable).parent))}:$PATH"
    start = 'airflow-sm-git local start --quiet && eval "$(airflow-sm-git local env)"'
    return "\n".join(["# Source this: . env.sh", path, *exports, start, ""])
