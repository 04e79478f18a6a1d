"""From an Airflow connection of type ``git`` to a git client.

Field names are those of apache-airflow-providers-git 1.0: host is the repository's URL, login the user name, password
the access token. We read the connection ourselves: that provider's hook puts the token into the URL in the version that
Airflow 3.0.6 is constrained to.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import fields, replace
from typing import TYPE_CHECKING, Any

from airflow_sm_git import settings
from airflow_sm_git.clients.git import GitClient
from airflow_sm_git.compat import BaseHook, mask_secret
from airflow_sm_git.core.credentials import Credentials, Login
from airflow_sm_git.core.errors import BadParameter, NotSupported
from airflow_sm_git.core.limits import Limits
from airflow_sm_git.core.ranges import CommitRange, parse_range
from airflow_sm_git.core.source import Source, parse_source
from airflow_sm_git.core.urls import check_url

if TYPE_CHECKING:
    from airflow_sm_git.hooks.aws import AwsHook

_log = logging.getLogger(__name__)
_SSH_FIELDS = ("private_key", "key_file", "private_key_passphrase", "host_proxy_cmd", "known_hosts_file", "ssh_port")


def read_source(
    repo: str | None,
    ref: str | None,
    git_config: Mapping[str, Any] | None,
    git_conn_id: str | None,
    *,
    aws: Callable[[], AwsHook] | None = None,
) -> Source:
    """Put together what to fetch; secrets in it are masked in every log from here on.

    :param repo: the repository's URL; beats the connection's host.
    :param git_config: the SageMaker SDK's dict, instead of repo and ref.
    :param aws: gives the AWS connection with which CodeCommit is asked where nothing else lets us in.
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


def git_client(credentials: Login | None = None) -> GitClient:
    """A git client with this machine's mirror cache and the settings' limits."""
    return GitClient(
        settings.cache_dir(),
        allowed_schemes=settings.allowed_schemes(),
        credentials=credentials,
        timeout=float(settings.number("git_timeout")),
        cache_size=settings.number("cache_size"),
        limits=Limits(**{each.name: settings.number(each.name) for each in fields(Limits)}),
    )


def commit_range(
    commits: str | None = None,
    *,
    repo: str | None = None,
    ref: str | None = None,
    limit: int | None = None,
    paths: Sequence[str] = (),
    git_config: Mapping[str, Any] | None = None,
    git_conn_id: str | None = None,
    aws_conn_id: str | None = "aws_default",
    region_name: str | None = None,
    verify: bool | str | None = None,
    botocore_config: dict[str, Any] | None = None,
) -> list[str]:
    """The commits of a range along first parents, to map a chain over; fetched once for all.

    To package one of them on the same machine needs no remote for its trees; with ``paths``, nor for what lies there.

    :param commits: ``A..B``: those after A, up to and with B, any refs; ``A..``: up to the default branch. Or a ref.
    :param repo, git_config, git_conn_id: as `GitCheckoutOperator`'s.
    :param ref: a branch, tag or SHA in place of ``commits``.
    :param limit: take the newest ones, so many at most. Without a start there must be one.
    :param paths: take only commits that changed one of these files or directories; give what will be packaged.
    :param aws_conn_id, region_name, verify, botocore_config: only for CodeCommit without a user name and password.
    :return: full SHAs, oldest first; none, if there is nothing after A.
    :raises BadParameter: no start and no limit, a malformed range, a start that does not come before the end.
    :raises RefNotFound: the remote has no such ref.
    """

    def aws() -> AwsHook:
        from airflow_sm_git.hooks.aws import AwsHook

        return AwsHook(aws_conn_id, region_name, verify, botocore_config)

    if commits is not None and ref is not None:
        raise BadParameter("commits", commits, "given together with ref.", "Give one of the two.")
    wanted = parse_range(commits) if commits is not None else CommitRange(None, ref or None)
    source = read_source(repo, None if git_config else wanted.ref, git_config, git_conn_id, aws=aws)
    for note in source.notes:
        _log.warning("%s", note)
    if git_config and wanted != CommitRange(None, None):
        if source.ref or source.commit:
            remedy = "Leave out 'branch' and 'commit'."
            raise BadParameter("commits", commits or ref, "given together with git_config's own.", remedy)
        source = replace(source, ref=wanted.ref)
    if wanted.since is None and limit is None:
        remedy = "Give limit, or a start: 'A..B'."
        raise BadParameter("limit", limit, "a whole history is too much to map over.", remedy)
    found = git_client(source.credentials).commits(source, since=wanted.since, limit=limit, paths=paths)
    return [commit.commit for commit in found]


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
