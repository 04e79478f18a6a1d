"""From an Airflow connection of type ``git`` to a git client.

Field names are those of apache-airflow-providers-git 1.0: host is the repository's URL, login the user name, password
the access token. We read the connection ourselves: that provider's hook puts the token into the URL in the version that
Airflow 3.0.6 is constrained to.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from airflow_sm_git import settings
from airflow_sm_git.clients.git import GitClient
from airflow_sm_git.compat import BaseHook, mask_secret
from airflow_sm_git.core.credentials import Credentials
from airflow_sm_git.core.errors import BadParameter, NotSupported
from airflow_sm_git.core.source import Source, parse_source
from airflow_sm_git.core.urls import check_url

_SSH_FIELDS = ("private_key", "key_file", "private_key_passphrase", "host_proxy_cmd", "known_hosts_file", "ssh_port")


def read_source(
    repo: str | None, ref: str | None, git_config: Mapping[str, Any] | None, git_conn_id: str | None
) -> Source:
    """Put together what to fetch; secrets in it are masked in every log from here on.

    :param repo: the repository's URL; beats the connection's host.
    :param git_config: the SageMaker SDK's dict, instead of repo and ref.
    :raises BadParameter: they contradict each other, or no repository is given.
    """
    credentials, host = _connection(git_conn_id) if git_conn_id else (None, None)
    source = parse_source(repo or (None if git_config else host), ref, git_config)
    if git_conn_id and git_config:
        raise BadParameter("git_conn_id", git_conn_id, "given together with git_config", "Give one of the two.")
    source = replace(
        source,
        url=check_url(source.url, settings.allowed_schemes()),
        credentials=credentials or source.credentials,
    )
    for secret in source.credentials.secrets() if source.credentials else ():
        mask_secret(secret)
    return source


def git_client(credentials: Credentials | None = None) -> GitClient:
    """A git client with this machine's mirror cache and the settings' limits."""
    return GitClient(
        settings.cache_dir(),
        allowed_schemes=settings.allowed_schemes(),
        credentials=credentials,
        timeout=float(settings.number("git_timeout")),
        cache_size=settings.number("cache_size"),
    )


def commit_range(
    *,
    repo: str | None = None,
    ref: str | None = None,
    limit: int,
    git_config: Mapping[str, Any] | None = None,
    git_conn_id: str | None = None,
) -> list[str]:
    """The newest commits of a branch along first parents, to map a chain over; fetched once for all.

    :param repo, ref, git_config, git_conn_id: as `GitCheckoutOperator`'s.
    :param limit: how many at most.
    :return: full SHAs, oldest first.
    """
    source = read_source(repo, ref, git_config, git_conn_id)
    return [commit.commit for commit in git_client(source.credentials).commits(source, limit=limit)]


def _connection(git_conn_id: str) -> tuple[Credentials | None, str | None]:
    connection = BaseHook.get_connection(git_conn_id)
    for name in _SSH_FIELDS:
        if connection.extra_dejson.get(name):
            problem = f"its connection's field {name!r} is not read yet"
            raise NotSupported(
                "git_conn_id", git_conn_id, problem, "Use a token over HTTPS, or the worker's own SSH key."
            )
    if not connection.password:
        return None, connection.host
    mask_secret(connection.password)
    if connection.login:
        return Credentials(username=connection.login, password=connection.password), connection.host
    return Credentials(token=connection.password), connection.host
