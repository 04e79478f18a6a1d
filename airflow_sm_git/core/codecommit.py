"""AWS CodeCommit's URLs: git-remote-codecommit's short ones, and what they stand for.

Sources: git-remote-codecommit 1.17 (``Context.from_url``, ``git_url``); CodeCommit User Guide, "Regions and Git
connection endpoints", for the hosts, the FIPS ones included.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from airflow_sm_git.core.errors import BadParameter

_SHORT = re.compile(r"codecommit(?:::(?P<region>[^:/]*))?://(?:(?P<profile>[^@/]*)@)?(?P<name>.*)", re.IGNORECASE)
_REGION = re.compile(r"[a-z]{2}(-[a-z]+)+-\d")
_NAME = re.compile(r"[A-Za-z0-9._-]{1,100}")  # CodeCommit User Guide, "Quotas": repository names
_HOST = re.compile(r"git-codecommit(?:-fips)?\.(?P<region>[a-z0-9-]+)\.amazonaws\.com(?:\.cn)?")
_REMEDY = "Write codecommit::REGION://REPOSITORY or codecommit::REGION://PROFILE@REPOSITORY."


@dataclass(frozen=True)
class Repository:
    """One repository of CodeCommit.

    :param region: None where the connection's, or the profile's, is meant.
    :param profile: name of a profile in the worker's AWS configuration to sign with.
    """

    name: str
    region: str | None = None
    profile: str | None = None

    @property
    def short(self) -> str:
        """``codecommit::REGION://[PROFILE@]NAME``."""
        region = f"::{self.region}" if self.region else ""
        return f"codecommit{region}://{f'{self.profile}@' if self.profile else ''}{self.name}"

    @property
    def https(self) -> str:
        """What git reads it from. The region must be known."""
        suffix = ".cn" if (self.region or "").startswith("cn-") else ""
        return f"https://git-codecommit.{self.region}.amazonaws.com{suffix}/v1/repos/{self.name}"


def is_short(url: str) -> bool:
    """Whether ``url`` is one of git-remote-codecommit's."""
    return bool(re.match(r"codecommit(::|://)", url, re.IGNORECASE))


def parse_short(url: str, parameter: str = "repo") -> Repository:
    """Read ``codecommit::REGION://[PROFILE@]NAME`` or ``codecommit://[PROFILE@]NAME``.

    :param parameter: the name to blame in errors.
    :raises BadParameter: something else, or an impossible name of a region, a profile or a repository.
    """
    match = _SHORT.fullmatch(url)
    if match is None:
        raise BadParameter(parameter, url, "is not a URL of git-remote-codecommit's.", _REMEDY)
    region, profile, name = match.group("region", "profile", "name")
    if region is not None and not _REGION.fullmatch(region):
        raise BadParameter(parameter, url, f"{region!r} is not the name of an AWS region.", _REMEDY)
    if profile is not None and (not profile or ":" in profile or profile.startswith("-")):
        problem = "credentials are refused: before the @ goes a profile." if ":" in profile else "names no profile."
        raise BadParameter(parameter, _SHORT.sub(r"codecommit://***@\g<name>", url), problem, _REMEDY)
    if not _NAME.fullmatch(name) or name.startswith("-") or name in (".", ".."):
        problem = f"{name!r} is not the name of a CodeCommit repository."
        raise BadParameter(parameter, url, problem, _REMEDY)
    return Repository(name, region, profile)


def reached_at(url: str) -> str:
    """The URL that git is given for ``url``: HTTPS for a short one, else itself.

    :raises BadParameter: a short one that names no region.
    """
    if not is_short(url):
        return url
    repository = parse_short(url)
    if not repository.region:
        raise BadParameter("repo", url, "names no AWS region.", _REMEDY)
    return repository.https


def region_of(url: str) -> str | None:
    """The region of a CodeCommit URL over HTTPS, or None: it is no such URL."""
    match = re.match(r"https://([^/@:?#]+)(?::443)?(?=/|$)", url, re.IGNORECASE)
    host = _HOST.fullmatch(match.group(1).lower()) if match else None
    return host.group("region") if host else None


def page(region: str, name: str, commit: str) -> str:
    """The page of a commit in the console of the region's partition."""
    domain = "console.aws.amazon.com"
    if region.startswith("cn-"):
        domain = "console.amazonaws.cn"
    elif region.startswith("us-gov-"):
        domain = "console.amazonaws-us-gov.com"
    return f"https://{region}.{domain}/codesuite/codecommit/repositories/{name}/commit/{commit}?region={region}"
