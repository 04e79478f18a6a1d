"""From who we are to what git needs for it: one entry per kind of login."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from airflow_sm_git.clients.codecommit import CodeCommitLogin
from airflow_sm_git.clients.git_environment import NOTHING, Access
from airflow_sm_git.clients.git_login import https_access
from airflow_sm_git.clients.git_ssh import ssh_access
from airflow_sm_git.core.codecommit import reached_at
from airflow_sm_git.core.credentials import Credentials, Login
from airflow_sm_git.core.ssh import SshAccess
from airflow_sm_git.core.urls import is_ssh


def access_for(login: Login | None, url: str, home: Path) -> Access:
    """What one git command needs to be let in at ``url``.

    :param home: git's HOME.
    """
    if is_ssh(url):
        return ssh_access(login if isinstance(login, SshAccess) else SshAccess(), url, home)
    target = reached_at(url)
    access = NOTHING
    if isinstance(login, Credentials):
        access = https_access(login, target)
    elif isinstance(login, CodeCommitLogin):
        access = login.access(target)
    return access if target == url else replace(access, url=target)
