"""Who we are to a remote: the credentials, and which of ``git_config``'s count."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from urllib.parse import urlsplit

from airflow_sm_git.core.errors import BadParameter
from airflow_sm_git.core.urls import is_codecommit, is_ssh


@dataclass(frozen=True)
class Credentials:
    """What a remote may ask for over HTTPS. The secrets are left out of the repr.

    :param username: user name, or None: with a token the one that the host expects is used.
    :param password: password that goes with ``username``.
    :param token: access token; it wins over ``password``.
    """

    username: str | None = None
    password: str | None = field(default=None, repr=False)
    token: str | None = field(default=None, repr=False)

    def secrets(self) -> tuple[str, ...]:
        """Everything that must never be shown: to be redacted and masked."""
        return tuple(secret for secret in (self.password, self.token) if secret)

    def login(self, url: str) -> tuple[str, str] | None:
        """User name and password to answer ``url`` with, or None when there is nothing complete to answer."""
        if self.token:
            return self.username if self.username and not self.password else _token_user(url), self.token
        if self.username and self.password:
            return self.username, self.password
        return None


def _token_user(url: str) -> str:
    """The user name that goes with a token.

    GitLab: any, ``oauth2`` for OAuth tokens (GitLab documentation, "Clone using token"); Bitbucket:
    ``x-token-auth`` ("Access tokens"); GitHub: any, ``x-access-token`` for app tokens.
    """
    host = (urlsplit(url).hostname or "").lower()
    if "gitlab" in host:
        return "oauth2"
    return "x-token-auth" if "bitbucket" in host else "x-access-token"


def read_credentials(url: str, git_config: Mapping[str, object]) -> tuple[Credentials | None, tuple[str, ...]]:
    """Apply the SDK's rules for which of the given credentials count (``sagemaker/git_utils.py`` in SDK 2.x)."""
    username = check_text("git_config['username']", git_config.get("username"))
    password = check_text("git_config['password']", git_config.get("password"), secret=True)
    token = check_text("git_config['token']", git_config.get("token"), secret=True)
    second_factor = _flag("git_config['2FA_enabled']", git_config.get("2FA_enabled"))
    notes: list[str] = []
    if is_ssh(url):
        if username or password or token:
            notes.append("username, password and token are ignored: SSH uses a key.")
        return None, tuple(notes)
    if is_codecommit(url):
        if token:
            notes.append("token is ignored: CodeCommit takes a user name and a password.")
        if second_factor:
            notes.append("2FA_enabled is ignored: CodeCommit does not have it.")
        token, second_factor = None, False
    if token or second_factor:
        if username or password:
            notes.append("username and password are ignored: the token is used, or 2FA_enabled is set.")
        return (Credentials(token=token) if token else None), tuple(notes)
    if bool(username) != bool(password):
        notes.append("username and password must both be given: going on without either.")
    return (Credentials(username, password) if username and password else None), tuple(notes)


def _flag(parameter: str, value: object) -> bool:
    if value is None or isinstance(value, bool):
        return bool(value)
    if isinstance(value, str) and value.strip().lower() in {"true", "false", ""}:  # what Jinja makes of a bool
        return value.strip().lower() == "true"
    raise BadParameter(parameter, value, "must be true or false.", "")


def check_text(parameter: str, value: object, *, secret: bool = False) -> str | None:
    if value is None or value == "":
        return None
    if not isinstance(value, str):
        raise BadParameter(parameter, "***" if secret else value, "must be a string.", "")
    return value
