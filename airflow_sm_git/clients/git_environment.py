"""What git finds in its environment: its whole configuration, and nothing else that could act on it."""

from __future__ import annotations

import os
import re
import shlex
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from airflow_sm_git.core.urls import DEFAULT_SCHEMES

_STALL_SECONDS = 60
# Everything else in the worker's environment, GIT_* first of all, is kept from git.
_KEPT = re.compile(
    r"PATH|TMPDIR|TZ|USER|LOGNAME|LD_LIBRARY_PATH|SSH_AUTH_SOCK|SSL_CERT_(FILE|DIR)|CURL_CA_BUNDLE"
    r"|GIT_SSL_CA(INFO|PATH)|(HTTPS|https|http|ALL|all|NO|no)_(PROXY|proxy)"
)
_HELPERS_NEED = re.compile(r"AWS_\w+|XDG_RUNTIME_DIR|DBUS_SESSION_BUS_ADDRESS|DISPLAY")
COPIED_CONFIG = r"^(credential\..*|http\.(.*\.)?(proxy|sslcainfo))$"
_CONFIG = (
    ("core.hooksPath", "/dev/null"),
    ("core.fsmonitor", "false"),
    ("core.bigFileThreshold", "1m"),  # larger blobs are streamed instead of held in memory
    ("core.packedGitWindowSize", "4m"),
    ("core.packedGitLimit", "32m"),
    ("core.deltaBaseCacheLimit", "8m"),
    ("gc.auto", "0"),
    ("maintenance.auto", "false"),
    ("fetch.writeCommitGraph", "false"),
    ("fetch.recurseSubmodules", "false"),
    ("i18n.logOutputEncoding", "UTF-8"),
    ("protocol.version", "2"),
    ("http.lowSpeedLimit", "1"),
    ("http.lowSpeedTime", str(_STALL_SECONDS)),
)
_SSH = "ssh -oBatchMode=yes -oConnectTimeout=20 -oServerAliveInterval=15 -oServerAliveCountMax=4 -oForwardAgent=no"


@dataclass(frozen=True)
class Remote:
    """What git needs to know of a remote for one command.

    :param url: checked by :func:`~airflow_sm_git.core.source.check_url`.
    :param object_filter: ``blob:none``, ``tree:0``, or None for everything.
    :param is_ours: whether the login that we were given is for it; not so, unless it is on the same host.
    :param largest: bytes that a file that git writes may have at most; None for any size.
    """

    url: str
    object_filter: str | None = None
    is_ours: bool = True
    largest: int | None = None


@dataclass(frozen=True)
class Access:
    """What lets one git command in at a remote, beyond its configuration.

    :param config: further configuration of git; secrets may be in it.
    :param environment: further environment variables; secrets may be in them.
    :param command: what to put in front of git, such as a program that gives it an ssh-agent.
    :param replaces_helpers: whether the machine's own credential helpers must not act.
    :param remedy: what to do if the remote does not let us in.
    :param url: where git finds the remote, if not at the URL that the user wrote.
    """

    config: tuple[tuple[str, str], ...] = field(default=(), repr=False)
    environment: dict[str, str] = field(default_factory=dict, repr=False)
    command: tuple[str, ...] = ()
    replaces_helpers: bool = False
    remedy: str = "Give credentials that may read it (git_conn_id, or git_config's token)."
    url: str | None = None


NOTHING = Access()


def environment(
    home: Path,
    allowed_schemes: Collection[str],
    machine_config: Sequence[tuple[str, str]] = (),
    remote: Remote | None = None,
    access: Access = NOTHING,
) -> dict[str, str]:
    """The environment of one git command.

    :param home: an empty directory to be git's HOME.
    :param allowed_schemes: what git may speak besides https and ssh.
    :param machine_config: what of the worker's own git configuration acts.
    :param remote: makes ``origin`` known; without it git cannot reach anything.
    """
    variables = {
        "HOME": str(home),
        "XDG_CONFIG_HOME": str(home),
        "GIT_CONFIG_NOSYSTEM": "1",
        "GIT_CONFIG_GLOBAL": "/dev/null",
        "GIT_ATTR_NOSYSTEM": "1",
        "GIT_TERMINAL_PROMPT": "0",
        "GIT_NO_REPLACE_OBJECTS": "1",
        "GIT_OPTIONAL_LOCKS": "0",
        "GIT_SSH_COMMAND": _SSH,
        "GIT_ALLOW_PROTOCOL": ":".join(sorted(DEFAULT_SCHEMES | set(allowed_schemes))) if remote else "none",
        "LC_ALL": "C",
        "LANGUAGE": "C",
    }
    config = list(_CONFIG)
    if remote:
        config += [("remote.origin.url", access.url or remote.url)]
        if remote.object_filter:
            config += [("remote.origin.promisor", "true")]
            config += [("remote.origin.partialclonefilter", remote.object_filter)]
        config += [p for p in machine_config if not (access.replaces_helpers and p[0].startswith("credential."))]
        config += access.config
    return variables | access.environment | _as_variables(config)


def is_kept(name: str, for_helper: bool) -> bool:
    """Whether a variable of the worker's environment is handed down to git.

    :param for_helper: the machine's own credential helper acts, which may need more.
    """
    return bool(_KEPT.fullmatch(name) or (for_helper and _HELPERS_NEED.fullmatch(name)))


def with_home(key: str, value: str) -> str:
    """Give a credential helper the HOME it was configured for (gitcredentials(7), the forms of a helper)."""
    if not value or not key.endswith(".helper"):
        return value
    home = f"export HOME={shlex.quote(os.path.expanduser('~'))}; "
    if value.startswith("!"):
        return "!" + home + value[1:]
    return "!" + home + (value if os.path.isabs(value) else f"git credential-{value}")


def _as_variables(config: Sequence[tuple[str, str]]) -> dict[str, str]:
    variables = {"GIT_CONFIG_COUNT": str(len(config))}
    for index, (key, value) in enumerate(config):
        variables[f"GIT_CONFIG_KEY_{index}"] = key
        variables[f"GIT_CONFIG_VALUE_{index}"] = value
    return variables
