"""Secrets that stand in DAG code: which of ``git_config``'s do, and how to keep them in a connection instead."""

from __future__ import annotations

import re
import shlex
from collections.abc import Mapping

from airflow_sm_git.core.credentials import read_credentials
from airflow_sm_git.core.urls import redact

SECRETS = ("token", "password")
_TEMPLATE = re.compile(r"\{\{|\{%")


def in_clear(git_config: object) -> tuple[str, ...]:
    """The keys of ``git_config`` whose values are secrets themselves, and no templates that fetch them."""
    if not isinstance(git_config, Mapping):
        return ()
    return tuple(key for key in SECRETS if is_in_clear(git_config.get(key)))


def is_in_clear(value: object) -> bool:
    """Whether a value is a text that is no template."""
    return isinstance(value, str) and bool(value) and not _TEMPLATE.search(value)


def warning(git_config: Mapping[str, object], keys: tuple[str, ...]) -> str:
    """What to say of secrets in DAG code, with the connection to use instead.

    :param git_config: as rendered.
    :param keys: which of its secrets stand in the code.
    """
    said = f"git_config holds a {' and a '.join(keys)} in DAG code, which Airflow stores in clear in its database."
    url = str(git_config.get("repo") or "")
    credentials, _ = read_credentials(url, git_config)
    if credentials is None:
        return f"{said} Take it out: it is not used."
    shown = redact(url, credentials.secrets())
    words = re.findall(r"[A-Za-z0-9]+", shown.removesuffix(".git"))[-2:]
    name = "_".join(["git", *words]).lower()
    command = ["airflow", "connections", "add", name, "--conn-type", "git", "--conn-host", shlex.quote(shown)]
    if credentials.username:
        command += ["--conn-login", shlex.quote(credentials.username)]
    command += ["--conn-password", f"'<the {'token' if credentials.token else 'password'}>'"]
    ref = git_config.get("commit") or git_config.get("branch")
    arguments = f"git_conn_id={name!r}" + (f", ref={ref!r}" if ref else "")
    return f"{said} Keep it in a connection:\n  {' '.join(command)}\nand write {arguments} instead of git_config."
