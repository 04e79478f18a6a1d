"""Who we are to a remote: the credentials, and which of ``git_config``'s count."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal, Protocol
from urllib.parse import urlsplit

from airflow_sm_git.core.errors import BadParameter
from airflow_sm_git.core.urls import is_codecommit, is_ssh

_CONTROL = re.compile(r"[\x00-\x1f\x7f]")


class Login(Protocol):
    """Any way to be let in at a remote."""

    def secrets(self) -> tuple[str, ...]:
        """Everything that must never be shown: to be redacted and masked."""


@dataclass(frozen=True)
class Credentials:
    """What a remote may ask for over HTTPS. The secrets are left out of the repr.

    :param username: user name, or None: with a token the one that the host expects is used.
    :param password: password that goes with ``username``.
    :param token: access token; it wins over ``password``.
    :param scheme: how the token is sent: ``basic`` as the password of a user (RFC 7617), ``bearer`` by itself
        (RFC 6750).
    :raises BadParameter: a control character in one of them, which git's credential protocol would take for more
        answers than one (git-credential(1), "INPUT/OUTPUT FORMAT"); or ``bearer`` without a token.
    """

    username: str | None = None
    password: str | None = field(default=None, repr=False)
    token: str | None = field(default=None, repr=False)
    scheme: Literal["basic", "bearer"] = "basic"

    def __post_init__(self) -> None:
        for name in ("username", "password", "token"):
            if _CONTROL.search(getattr(self, name) or ""):
                remedy = "Take it out; the end of a file's last line often gets in."
                raise BadParameter(name, "***", "has a line end or another control character.", remedy)
        if self.scheme not in ("basic", "bearer"):
            raise BadParameter("auth_scheme", self.scheme, "must be 'basic' or 'bearer'.")
        if self.scheme == "bearer" and not self.token:
            raise BadParameter("auth_scheme", self.scheme, "needs a token.", "Give one as the connection's password.")

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
            notes.append(f"{_named(username, password, token)} ignored: SSH uses a key.")
        return None, tuple(notes)
    if is_codecommit(url):
        if token:
            notes.append("token is ignored: CodeCommit takes a user name and a password.")
        if second_factor:
            notes.append("2FA_enabled is ignored: CodeCommit does not have it.")
        token, second_factor = None, False
    if token or second_factor:
        if username or password:
            why = "the token is used" if token else "with 2FA_enabled only a token counts"
            notes.append(f"{_named(username, password)} ignored: {why}.")
        return (Credentials(token=token) if token else None), tuple(notes)
    if bool(username) != bool(password):
        given, missing = ("username", "password") if username else ("password", "username")
        notes.append(f"{given} is ignored, as {missing} is not given: going on without either.")
    return (Credentials(username, password) if username and password else None), tuple(notes)


def _named(username: str | None, password: str | None, token: str | None = None) -> str:
    """Which of them are given, as the subject of a sentence."""
    given = [name for name, value in (("username", username), ("password", password), ("token", token)) if value]
    return " and ".join([", ".join(given[:-1]), given[-1]] if len(given) > 1 else given) + (
        " are" if len(given) > 1 else " is"
    )


def _flag(parameter: str, value: object) -> bool:
    if value is None or isinstance(value, bool):
        return bool(value)
    if isinstance(value, str) and value.strip().lower() in {"true", "false", ""}:  # what Jinja makes of a bool
        return value.strip().lower() == "true"
    raise BadParameter(parameter, value, "must be true or false.", "")


def check_text(parameter: str, value: object, *, secret: bool = False) -> str | None:
    """``value`` if it is a string; None if it is missing or empty.

    :param secret: leave the value out of the error.
    :raises BadParameter: it is something else.
    """
    if value is None or value == "":
        return None
    if not isinstance(value, str):
        raise BadParameter(parameter, "***" if secret else value, "must be a string.", "")
    return value
