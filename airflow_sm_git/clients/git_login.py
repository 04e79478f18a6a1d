"""How a login over HTTPS reaches git: a credential helper that reads git's own environment, or a header."""

from __future__ import annotations

import re

from airflow_sm_git.clients.git_environment import NOTHING, Access
from airflow_sm_git.core.credentials import Credentials

# Answers only git's question for a login; the values are in its environment, printf is built into the shell.
_HELPER = (
    '!f() { test "$1" = get || exit 0; '
    'printf "username=%s\\npassword=%s\\n" "$SM_GIT_USERNAME" "$SM_GIT_PASSWORD"; }; f'
)


_REFUSED = "Check that {what} may read the repository (the connection of git_conn_id, or git_config)."
_OTHER_SCHEME = " If the host wants the token sent as {other}, set the connection's extra auth_scheme to {value}."


def https_access(credentials: Credentials, url: str) -> Access:
    """Let git answer ``url``'s host, and no other, with these credentials."""
    login = credentials.login(url)
    scope = re.match(r"https?://[^/]+", url)
    if login is None or scope is None:
        return NOTHING
    if credentials.scheme == "bearer":
        return _bearer(credentials.token or "", scope.group(0))
    user, password = login
    remedy = _REFUSED.format(what="the token" if credentials.token else "this user, with this password,")
    if credentials.token:
        remedy += _OTHER_SCHEME.format(other="'Authorization: Bearer'", value="'bearer'")
    return Access(
        config=(("credential.helper", ""), (f"credential.{scope.group(0)}.helper", _HELPER)),
        environment={"SM_GIT_USERNAME": user, "SM_GIT_PASSWORD": password},
        replaces_helpers=True,
        remedy=remedy,
    )


def _bearer(token: str, scope: str) -> Access:
    """The token as a header to one host. A redirect is not followed: git would send the header on with it."""
    remedy = _REFUSED.format(what="the token") + _OTHER_SCHEME.format(other="a user's password", value="'basic'")
    config = (
        ("credential.helper", ""),
        (f"http.{scope}.extraHeader", f"Authorization: Bearer {token}"),
        ("http.followRedirects", "false"),
    )
    return Access(config=config, replaces_helpers=True, remedy=remedy)
