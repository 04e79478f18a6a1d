"""What a connection of type ``git`` says: where the repository is, and who we are to it.

Field names are those of apache-airflow-providers-git 1.0: host is the repository's URL, login the user name, password
the access token. ``auth_scheme``, ``known_hosts`` and ``connect_timeout`` in the extra are ours.
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from typing import Literal, cast

from airflow_sm_git.core.credentials import Credentials, Login
from airflow_sm_git.core.errors import BadParameter, NotSupported
from airflow_sm_git.core.ssh import FIELDS, SshAccess, read_ssh
from airflow_sm_git.core.urls import is_codecommit, is_ssh

_GITHUB_APP = ("github_app_id", "github_installation_id")
_KNOWN = (*FIELDS, "auth_scheme", *_GITHUB_APP)
TRUSTED_AT_FIRST_SIGHT = (
    "No known_hosts was given: a host's key is trusted at first sight, and held against it from then on. To have it"
    " checked from the start, give known_hosts in the connection of git_conn_id."
)


def repository_url(host: str | None, port: int | None, schema: str | None) -> str | None:
    """The repository's URL, or None.

    Usually it is the whole host; but of a connection's URI such as ``git://https://user:token@example.com:8443/a/b``
    Airflow makes a host (``https://example.com``), a port and a schema (``a/b``).
    """
    if not host or not schema:
        return host or None
    base = host if "://" in host else f"https://{host}"
    return f"{base.rstrip('/')}{f':{port}' if port else ''}/{schema.strip('/')}"


def read_connection(
    url: str, user: str | None, password: str | None, extra: Mapping[str, object]
) -> tuple[Login | None, tuple[str, ...]]:
    """Who we are to ``url``, by its kind, and sentences that the user should see as warnings.

    :param user: the connection's login.
    :param password: the connection's password: an access token, or with a login the user's password.
    :raises BadParameter: a misspelt field of the extra, or a value that cannot work.
    :raises NotSupported: the fields of a GitHub App.
    """
    notes = _check_names(extra)
    scheme = _auth_scheme(extra)
    given = [name for name in FIELDS if extra.get(name) not in (None, "")]
    if is_ssh(url):
        if password:
            notes.append("The connection's password is ignored: SSH uses a key.")
        ssh = read_ssh(extra, user)
        return ssh, (*notes, *ssh_notes(ssh))
    if given:
        verb = "are" if len(given) > 1 else "is"
        notes.append(f"The connection's {', '.join(given)} {verb} ignored: the URL is not an SSH one.")
    if not password:
        return None, tuple(notes)
    if is_codecommit(url) and not user:
        notes.append("The connection's token is ignored: CodeCommit takes a user name and a password.")
        return None, tuple(notes)
    if scheme == "bearer":
        if user:
            notes.append("The connection's login is ignored: with auth_scheme 'bearer' the token goes alone.")
        return Credentials(token=password, scheme="bearer"), tuple(notes)
    if user:
        return Credentials(username=user, password=password), tuple(notes)
    return Credentials(token=password), tuple(notes)


def ssh_notes(ssh: SshAccess) -> tuple[str, ...]:
    """What to say about how the host's key is checked, unless the user has decided it."""
    if ssh.checking == "no":
        return ("The host's key is not checked (strict_host_key_checking): anybody may answer in its place.",)
    undecided = ssh.checking == "accept-new" and ssh.strict_host_key_checking is None
    return (TRUSTED_AT_FIRST_SIGHT,) if undecided else ()


def _check_names(extra: Mapping[str, object]) -> list[str]:
    notes = []
    for name, value in extra.items():
        if name in _GITHUB_APP and value not in (None, ""):
            remedy = "Give an installation's access token as the connection's password, or a deploy key."
            raise NotSupported(name, value, "GitHub Apps are not supported yet.", remedy)
        if name not in _KNOWN:
            near = difflib.get_close_matches(name.lower(), _KNOWN, 1, 0.8)
            if near:
                raise BadParameter("extra", name, "unknown field of a git connection.", f"Did you mean {near[0]!r}?")
            notes.append(f"The connection's extra field {name!r} is not known, and ignored.")
    return notes


def _auth_scheme(extra: Mapping[str, object]) -> Literal["basic", "bearer"]:
    value = extra.get("auth_scheme") or "basic"
    if not isinstance(value, str) or value.lower() not in ("basic", "bearer"):
        raise BadParameter(
            "auth_scheme", value, "is not known.", "Write 'basic' or 'bearer' in the connection's extra."
        )
    return cast("Literal['basic', 'bearer']", value.lower())
