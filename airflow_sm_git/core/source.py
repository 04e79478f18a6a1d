"""What to fetch: a repository and a point in its history, as users write them.

Pure: nothing here talks to a remote. :class:`airflow_sm_git.clients.git.GitClient` does.
"""

from __future__ import annotations

import difflib
import posixpath
import re
from collections.abc import Mapping
from dataclasses import dataclass

from airflow_sm_git.core.credentials import Login, check_text, read_credentials
from airflow_sm_git.core.errors import BadParameter, NotSupported

GIT_CONFIG_KEYS = ("repo", "branch", "commit", "2FA_enabled", "username", "password", "token")

_FULL_SHA = re.compile(r"[0-9a-f]{40}")
_SHORT_SHA = re.compile(r"[0-9a-f]{4,39}")
# What git check-ref-format(1) forbids anywhere in a ref name.
_REF_FORBIDDEN = re.compile(r"[\x00-\x20\x7f~^:?*\[\\]|\.\.|@\{|//|/\.|\.lock(?:/|$)")


@dataclass(frozen=True)
class Source:
    """A repository and a point in its history, as the user named them.

    :param url: remote URL; never with credentials in it.
    :param ref: branch, tag, full or short SHA, ``refs/…``; None is the remote's HEAD.
    :param commit: ``git_config``'s commit; with a ``ref`` too, it must be on that branch.
    :param credentials: what ``git_config`` gave. :class:`~airflow_sm_git.clients.git.GitClient` takes its own.
    :param notes: sentences that the user should see as warnings.
    """

    url: str
    ref: str | None = None
    commit: str | None = None
    credentials: Login | None = None
    notes: tuple[str, ...] = ()


def parse_source(repo: str | None, ref: str | None = None, git_config: Mapping[str, object] | None = None) -> Source:
    """Read ``repo`` and ``ref``, or the SageMaker SDK's ``git_config`` in their place.

    :param repo: remote URL.
    :param ref: branch, tag, SHA or ``refs/…``; None or empty is the remote's HEAD.
    :param git_config: mapping with the keys ``repo``, ``branch``, ``commit``, ``2FA_enabled``, ``username``,
        ``password``, ``token`` (SageMaker Python SDK 2.x, ``EstimatorBase(git_config=…)``).
    :raises BadParameter: both ways at once, neither, an unknown key, a value of the wrong type, a malformed ref.
    """
    if git_config is None:
        if not repo:
            raise BadParameter("repo", repo, "no repository was given.", "Give repo, git_conn_id or git_config.")
        return Source(url=check_text("repo", repo) or "", ref=check_ref(ref) if ref else None)
    if repo or ref:
        given = "repo" if repo else "ref"
        raise BadParameter(given, repo or ref, "given together with git_config.", "Give one or the other.")
    _check_keys(git_config)
    url = check_text("git_config['repo']", git_config.get("repo"))
    if not url:
        raise BadParameter("git_config['repo']", None, "git_config needs a repository.", "Add the key 'repo'.")
    branch = check_text("git_config['branch']", git_config.get("branch"))
    commit = check_text("git_config['commit']", git_config.get("commit"))
    credentials, notes = read_credentials(url, git_config)
    return Source(
        url=url,
        ref=check_ref(branch, "git_config['branch']") if branch else None,
        commit=check_ref(commit, "git_config['commit']") if commit else None,
        credentials=credentials,
        notes=notes,
    )


def _check_keys(git_config: Mapping[str, object]) -> None:
    for key in git_config:
        if key not in GIT_CONFIG_KEYS:
            near = difflib.get_close_matches(str(key), GIT_CONFIG_KEYS, 1, 0.5)
            remedy = f"Did you mean {near[0]!r}?" if near else f"Known keys: {', '.join(GIT_CONFIG_KEYS)}."
            raise BadParameter("git_config", key, "unknown key.", remedy)


def check_ref(ref: str, parameter: str = "ref") -> str:
    """Return ``ref`` if it is a well-formed name of a branch, tag or commit (git-check-ref-format(1)).

    :raises BadParameter: otherwise.
    """
    if not isinstance(ref, str):
        raise BadParameter(parameter, ref, "must be a string.")
    bad = not ref or ref == "@" or ref[0] in "-/." or ref[-1] in "/." or _REF_FORBIDDEN.search(ref)
    if bad:
        remedy = "Write a branch, a tag, a commit's SHA, or refs/…"
        raise BadParameter(parameter, ref, "not a name that git allows for a ref.", remedy)
    if re.fullmatch(r"[0-9a-f]{64}", ref):
        raise NotSupported(parameter, ref, "repositories with SHA-256 object names are not supported yet.")
    return ref


def is_full_sha(text: str) -> bool:
    """Whether ``text`` is a full SHA-1 object name, in lower case."""
    return bool(_FULL_SHA.fullmatch(text))


def is_short_sha(text: str) -> bool:
    """Whether ``text`` may be an abbreviated SHA-1 object name: 4 to 39 hexadecimal digits in lower case."""
    return bool(_SHORT_SHA.fullmatch(text))


def check_path(parameter: str, value: str) -> str:
    """Return ``value`` as a normalised POSIX path relative to the repository's root; the root itself is ``.``.

    :param parameter: the name to blame in errors.
    :raises BadParameter: absolute, leaving the repository, inside ``.git``, or with control characters.
    """
    remedy = "Write a path relative to the root of the repository, such as 'src/train'."
    if not isinstance(value, str) or not value:
        raise BadParameter(parameter, value, "must be a path in the repository.", remedy)
    if re.search(r"[\x00-\x1f\x7f\\]", value):
        raise BadParameter(parameter, value, "has a backslash or control character.", remedy)
    if value.startswith(("/", "~")) or re.match(r"[A-Za-z]:", value):
        raise BadParameter(parameter, value, "is an absolute path.", remedy)
    parts = value.split("/")
    if ".." in parts:
        raise BadParameter(parameter, value, "'..' may leave the repository.", remedy)
    if any(part.casefold() == ".git" for part in parts):
        raise BadParameter(parameter, value, "'.git' is never packaged.", remedy)
    return posixpath.normpath(value)
