"""The settings, section ``[sm_git]`` of Airflow's configuration, and the only reader of them.

Each can be given as ``AIRFLOW__SM_GIT__<NAME>`` too. They are read when a task runs, never when a DAG file is parsed.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

SECTION = "sm_git"


@dataclass(frozen=True)
class Setting:
    """One row of the table."""

    name: str
    default: str
    meaning: str


TABLE: tuple[Setting, ...] = (
    Setting("cache_dir", "~/.cache/airflow-sm-git", "Folder of the git mirrors. Losing it costs time only."),
    Setting("cache_size", "10737418240", "Bytes the mirrors may take; the least recently used one goes first."),
    Setting("s3_uri_prefix", "", "Where packages and models go. Empty: s3://sagemaker-{region}-{account}/sm-git/."),
    Setting("role", "", "Execution role (ARN or name) for operators that give none."),
    Setting("namespace", "default", "Tells two Airflows that share an AWS account apart."),
    Setting("allowed_schemes", "", "URL schemes of git remotes besides https and ssh, with commas."),
    Setting("max_files", "100000", "Files that a package may hold."),
    Setting("max_file_size", "1073741824", "Bytes that one file of a package may have."),
    Setting("max_package_size", "2147483648", "Bytes that the files of a package may have together."),
    Setting("git_timeout", "600", "Seconds that one use of a git remote may take."),
    Setting("lease", "86400", "Seconds after which a sweep may delete what a run left."),
    Setting("local_state", "~/.airflow-sm-git/local", "Folder of the local SageMaker's state."),
)
_DEFAULTS = {setting.name: setting.default for setting in TABLE}


def get(name: str) -> str:
    """The value of a setting of the table, as text.

    The environment is looked at first, as Airflow does, and Airflow is asked only where it is configured: importing it
    makes its folder, which ``airflow-sm-git local status`` must not.
    """
    variable = f"AIRFLOW__{SECTION}__{name}".upper()
    if variable in os.environ:
        return os.environ[variable].strip()
    if not _airflow_is_configured(variable):
        return _DEFAULTS[name]
    from airflow_sm_git.compat import conf

    return str(conf.get(SECTION, name, fallback=_DEFAULTS[name])).strip()


def _airflow_is_configured(variable: str) -> bool:
    if f"{variable}_CMD" in os.environ or f"{variable}_SECRET" in os.environ:
        return True
    home = Path(os.environ.get("AIRFLOW_HOME", "~/airflow")).expanduser()
    return Path(os.environ.get("AIRFLOW_CONFIG", home / "airflow.cfg")).expanduser().exists()


def cache_dir() -> Path:
    """Folder of the git mirrors."""
    return Path(get("cache_dir")).expanduser()


def local_state() -> Path:
    """Folder of the local SageMaker's state."""
    return Path(get("local_state")).expanduser()


def allowed_schemes() -> frozenset[str]:
    """URL schemes of git remotes besides the default ones."""
    return frozenset(part.strip() for part in get("allowed_schemes").split(",") if part.strip())


def lease() -> timedelta:
    """How long what a run makes may live."""
    return timedelta(seconds=number("lease"))


def default_deferrable() -> bool:
    """Airflow's own ``[operators] default_deferrable``."""
    from airflow_sm_git.compat import conf

    return bool(conf.getboolean("operators", "default_deferrable", fallback=False))


def number(name: str) -> int:
    """A setting that is a whole number.

    :raises BadParameter: it is not one.
    """
    from airflow_sm_git.core.errors import BadParameter

    text = get(name)
    if not text.isdigit():
        raise BadParameter(f"[{SECTION}] {name}", text, "is not a whole number", "Write digits only.")
    return int(text)
