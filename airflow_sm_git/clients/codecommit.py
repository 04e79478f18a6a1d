"""Lets git in at CodeCommit with AWS credentials: what git-remote-codecommit does, with no program installed."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any
from urllib.parse import urlsplit

from airflow_sm_git.clients.git_environment import NOTHING, Access
from airflow_sm_git.clients.git_login import https_access
from airflow_sm_git.core.codecommit import region_of
from airflow_sm_git.core.credentials import Credentials
from airflow_sm_git.core.errors import AccessDenied, BadParameter


@dataclass(frozen=True)
class AwsKeys:
    """Credentials of AWS at one moment. The secrets are left out of the repr.

    :param token: session token of temporary credentials.
    """

    access_key: str
    secret_key: str = field(repr=False)
    token: str | None = field(default=None, repr=False)


class CodeCommitLogin:
    """Signs for each git command anew: a signature is good for 15 minutes.

    :param keys: gives the credentials to sign with.
    :param register: is told every secret when it comes to be.
    :param now: the clock, in UTC.
    """

    def __init__(
        self,
        keys: Callable[[], AwsKeys],
        *,
        register: Callable[[str], None] = lambda secret: None,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._keys = keys
        self._register = register
        self._now = now
        self._secrets: tuple[str, ...] = ()

    def secrets(self) -> tuple[str, ...]:
        """Everything that must never be shown, the last signature included."""
        return self._secrets

    def access(self, url: str) -> Access:
        """Let git answer the host of ``url`` if it is CodeCommit over HTTPS; no other host."""
        region = region_of(url)
        if region is None:
            return NOTHING
        keys = self._keys()
        user, password = sign(url, region, keys, self._now())
        for secret in (keys.secret_key, keys.token, password):
            if secret:
                self._register(secret)
        self._secrets = tuple(filter(None, (keys.secret_key, keys.token, password)))
        remedy = (
            f"Let {keys.access_key} of the AWS connection do codecommit:GitPull on the repository, or give a user name"
            " and a password with git_conn_id. A worker whose clock is wrong is refused too."
        )
        return replace(https_access(Credentials(user, password), url), remedy=remedy)


def sign(url: str, region: str, keys: AwsKeys, moment: datetime) -> tuple[str, str]:
    """User name and password for one URL, as git-remote-codecommit 1.17 makes them (``git_url``, ``sign``).

    :param url: ``https://git-codecommit.REGION.…/v1/repos/NAME``.
    :param moment: when, in UTC.
    """
    from botocore.auth import SigV4Auth
    from botocore.awsrequest import AWSRequest
    from botocore.credentials import Credentials as BotoCredentials

    parts = urlsplit(url)
    host = parts.hostname or ""
    request = AWSRequest(method="GIT", url=f"https://{host}{parts.path}")
    request.context["timestamp"] = moment.strftime("%Y%m%dT%H%M%S")
    signer = SigV4Auth(BotoCredentials(keys.access_key, keys.secret_key, keys.token), "codecommit", region)
    canonical = f"GIT\n{parts.path}\n\nhost:{host}\n\nhost\n"
    signature = signer.signature(signer.string_to_sign(request, canonical), request)
    user = f"{keys.access_key}%{keys.token}" if keys.token else keys.access_key
    return user, f"{request.context['timestamp']}Z{signature}"


def profile_keys(profile: str) -> AwsKeys:
    """The credentials of a profile in the worker's AWS configuration.

    :raises BadParameter: there is no such profile, or it has no credentials.
    :raises AccessDenied: they cannot be had.
    """
    from botocore.exceptions import BotoCoreError, ClientError

    try:
        found = _profile(profile).get_credentials()
        frozen = found.get_frozen_credentials() if found else None
    except (BotoCoreError, ClientError) as error:
        what = f"The AWS profile {profile!r} gives no credentials: {error}"
        raise AccessDenied(re.sub(r"[^.]$", r"\g<0>.", what), "Correct the worker's AWS configuration.") from error
    if frozen is None:
        remedy = "Give it credentials in the worker's AWS configuration, or leave the profile out."
        raise BadParameter("repo", profile, "the AWS profile has no credentials.", remedy)
    return AwsKeys(frozen.access_key, frozen.secret_key, frozen.token)


def profile_region(profile: str) -> str | None:
    """The region of a profile in the worker's AWS configuration.

    :raises BadParameter: there is no such profile.
    """
    region = _profile(profile).get_config_variable("region")
    return str(region) if region else None


def _profile(profile: str) -> Any:
    from botocore.session import Session

    session = Session(profile=profile)
    if profile not in session.available_profiles:
        known = ", ".join(session.available_profiles) or "none"
        remedy = f"Profiles that it has: {known}. Or leave the profile out, to sign with aws_conn_id."
        raise BadParameter("repo", profile, "the worker's AWS configuration has no such profile.", remedy)
    return session
