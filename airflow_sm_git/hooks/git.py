"""From an Airflow connection of type ``git`` to a git client.

We read the connection ourselves: that provider's hook puts the token into the URL in the version that Airflow 3.0.6 is
constrained to. What its fields mean: :mod:`airflow_sm_git.core.git_connection`.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import fields, replace
from functools import partial
from typing import TYPE_CHECKING, Any

from airflow_sm_git import settings
from airflow_sm_git.clients.git import GitClient
from airflow_sm_git.compat import BaseHook, mask_secret
from airflow_sm_git.core.codecommit import is_short, parse_short
from airflow_sm_git.core.credentials import Login
from airflow_sm_git.core.errors import BadParameter
from airflow_sm_git.core.git_connection import read_connection, repository_url, ssh_notes
from airflow_sm_git.core.limits import Limits
from airflow_sm_git.core.ranges import CommitRange, parse_range
from airflow_sm_git.core.source import Source, parse_source
from airflow_sm_git.core.ssh import SshAccess, key_lines
from airflow_sm_git.core.urls import check_url, is_codecommit, is_ssh

if TYPE_CHECKING:
    from airflow_sm_git.hooks.aws import AwsHook

_log = logging.getLogger(__name__)


def read_source(
    repo: str | None,
    ref: str | None,
    git_config: Mapping[str, Any] | None,
    git_conn_id: str | None,
    *,
    aws: Callable[[], AwsHook] | None = None,
) -> Source:
    """Put together what to fetch; secrets in it are masked in every log from here on.

    The URL is the user's, but for the region, which ``codecommit://…`` leaves to the connection.

    :param repo: the repository's URL; beats the connection's host.
    :param git_config: the SageMaker SDK's dict, instead of repo and ref.
    :param aws: gives the AWS connection with which CodeCommit is asked where nothing else lets us in.
    :raises BadParameter: they contradict each other, or no repository is given.
    """
    if git_conn_id and git_config:
        raise BadParameter("git_conn_id", git_conn_id, "given together with git_config", "Give one of the two.")
    connection = BaseHook.get_connection(git_conn_id) if git_conn_id else None
    if connection and not repo:
        repo = repository_url(connection.host, connection.port, connection.schema)
        if not repo:
            remedy = "Write the repository's URL as the connection's host, or give repo."
            raise BadParameter("git_conn_id", git_conn_id, "its connection has no host, and repo is not given.", remedy)
    source = parse_source(repo, ref, git_config)
    parameter = "git_config['repo']" if git_config else "repo"
    source = replace(source, url=check_url(source.url, settings.allowed_schemes(), parameter=parameter))
    if connection:
        source = _with_connection(source, connection)
    elif is_ssh(source.url):
        ssh = SshAccess()
        source = replace(source, credentials=ssh, notes=(*source.notes, *ssh_notes(ssh)))
    for secret in source.credentials.secrets() if source.credentials else ():
        mask_secret(secret)
    return _with_aws(source, aws) if is_codecommit(source.url) else source


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


def _with_connection(source: Source, connection: Any) -> Source:
    """The source with what a connection says, which is masked even where it does not count."""
    extra = connection.extra_dejson
    if connection.port and not connection.schema:
        extra = {"ssh_port": connection.port, **extra}
    key = str(extra.get("private_key") or "").replace("\\n", "\n")
    for secret in (connection.password, extra.get("private_key_passphrase"), *key_lines(key)):
        if secret:
            mask_secret(secret)
    login, notes = read_connection(source.url, connection.login, connection.password, extra)
    return replace(source, credentials=login or source.credentials, notes=(*source.notes, *notes))


def _with_aws(source: Source, aws: Callable[[], AwsHook] | None) -> Source:
    """The source with its region, signed for with AWS credentials unless there is a user name and a password."""
    from airflow_sm_git.clients.codecommit import CodeCommitLogin, profile_keys, profile_region
    from airflow_sm_git.hooks.aws import AwsHook

    hook = (aws or AwsHook)()
    profile = None
    if is_short(source.url):
        repository = parse_short(source.url)
        profile = repository.profile
        if not repository.region:
            region = profile_region(profile) if profile else hook.region()
            if not region:
                whose = f"profile {profile!r}" if profile else "the connection of aws_conn_id"
                remedy = f"Write codecommit::REGION://{repository.name}, or give {whose} a region."
                raise BadParameter("repo", source.url, "names no AWS region.", remedy)
            source = replace(source, url=replace(repository, region=region).short)
    if source.credentials:
        return source
    keys = partial(profile_keys, profile) if profile else hook.keys
    return replace(source, credentials=CodeCommitLogin(keys, register=mask_secret))
