"""How a login over HTTPS reaches git: through a credential helper that reads git's own environment."""

from __future__ import annotations

import re

from airflow_sm_git.clients.git_environment import NOTHING, Access
from airflow_sm_git.core.credentials import Credentials

# Answers only git's question for a login; the values are in its environment, printf is built into the shell.
_HELPER = (
    '!f() { test "$1" = get || exit 0; '
    'printf "username=%s\\npassword=%s\\n" "$SM_GIT_USERNAME" "$SM_GIT_PASSWORD"; }; f'
)


def https_access(credentials: Credentials, url: str) -> Access:
    """Let git answer ``url``'s host, and no other, with these credentials."""
    login = credentials.login(url)
    scope = re.match(r"https?://[^/]+", url)
    if login is None or scope is None:
        return NOTHING
    user, password = login
    return Access(
        config=(("credential.helper", ""), (f"credential.{scope.group(0)}.helper", _HELPER)),
        environment={"SM_GIT_USERNAME": user, "SM_GIT_PASSWORD": password},
        replaces_helpers=True,
    )
