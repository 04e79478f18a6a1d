"""From who we are to what git needs for it: one entry per kind of login."""

from __future__ import annotations

from airflow_sm_git.clients.git_environment import NOTHING, Access
from airflow_sm_git.clients.git_login import https_access
from airflow_sm_git.core.credentials import Credentials


def access_for(login: Credentials | None, url: str) -> Access:
    """What one git command needs to be let in at ``url``."""
    if isinstance(login, Credentials):
        return https_access(login, url)
    return NOTHING
