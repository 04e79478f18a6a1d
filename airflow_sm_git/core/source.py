"""What to fetch: a repository, a ref, credentials; and the rules that each must keep.

Pure: nothing here talks to a remote. :class:`airflow_sm_git.clients.git.GitClient` does.
"""

from __future__ import annotations

import base64
import difflib
import posixpath
import re
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from urllib.parse import quote, quote_plus, unquote, urlsplit

from airflow_sm_git.core.errors import BadParameter, NotSupported

DEFAULT_SCHEMES = frozenset({"https", "ssh"})
GIT_CONFIG_KEYS = ("repo", "branch", "commit", "2FA_enabled", "username", "password", "token")

_FULL_SHA = re.compile(r"[0-9a-f]{40}")
_SHORT_SHA = re.compile(r"[0-9a-f]{4,39}")
_CONTROL = re.compile(r"[\x00-\x20\x7f]")
_TRANSPORT_HELPER = re.compile(r"[A-Za-z0-9][A-Za-z0-9+.-]*::")
_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*)://")
_SCP_LIKE = re.compile(r"(?:(?P<user>[^@:/]+)@)?(?P<host>[^:/@]+|\[[0-9A-Fa-f:.]+\]):(?P<path>(?!//).+)")
# What git check-ref-format(1) forbids anywhere in a ref name.
_REF_FORBIDDEN = re.compile(r"[\x00-\x20\x7f~^:?*\[\\]|\.\.|@\{|//|/\.|\.lock(?:/|$)")
_USER_IN_URL = re.compile(r"(://)([^/\s'\"]+)@")


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
    credentials: Credentials | None = None
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
        return Source(url=_text("repo", repo) or "", ref=check_ref(ref) if ref else None)
    if repo or ref:
        given = "repo" if repo else "ref"
        raise BadParameter(given, repo or ref, "given together with git_config.", "Give one or the other.")
    _check_keys(git_config)
    url = _text("git_config['repo']", git_config.get("repo"))
    if not url:
        raise BadParameter("git_config['repo']", None, "git_config needs a repository.", "Add the key 'repo'.")
    branch = _text("git_config['branch']", git_config.get("branch"))
    commit = _text("git_config['commit']", git_config.get("commit"))
    credentials, notes = _credentials(url, git_config)
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


def _text(parameter: str, value: object, *, secret: bool = False) -> str | None:
    if value is None or value == "":
        return None
    if not isinstance(value, str):
        raise BadParameter(parameter, "***" if secret else value, "must be a string.", "")
    return value


def _credentials(url: str, git_config: Mapping[str, object]) -> tuple[Credentials | None, tuple[str, ...]]:
    """Apply the SDK's rules for which of the given credentials count (``sagemaker/git_utils.py`` in SDK 2.x)."""
    username = _text("git_config['username']", git_config.get("username"))
    password = _text("git_config['password']", git_config.get("password"), secret=True)
    token = _text("git_config['token']", git_config.get("token"), secret=True)
    second_factor = _flag("git_config['2FA_enabled']", git_config.get("2FA_enabled"))
    notes: list[str] = []
    if is_ssh(url):
        if username or password or token:
            notes.append("username, password and token are ignored: SSH uses a key.")
        return None, tuple(notes)
    if _is_codecommit(url):
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


def is_ssh(url: str) -> bool:
    """Whether git would reach ``url`` over SSH: ``ssh://…`` or ``[user@]host:path``."""
    match = _SCHEME.match(url)
    return match.group(1).lower() == "ssh" if match else bool(_SCP_LIKE.fullmatch(url))


def _is_codecommit(url: str) -> bool:
    return bool(re.match(r"https://git-codecommit(-fips)?\.[^/]+\.amazonaws\.com", url, re.IGNORECASE))


def _token_user(url: str) -> str:
    """The user name that goes with a token.

    GitLab: any, ``oauth2`` for OAuth tokens (GitLab documentation, "Clone using token"); Bitbucket:
    ``x-token-auth`` ("Access tokens"); GitHub: any, ``x-access-token`` for app tokens.
    """
    host = (urlsplit(url).hostname or "").lower()
    if "gitlab" in host:
        return "oauth2"
    return "x-token-auth" if "bitbucket" in host else "x-access-token"


def check_url(url: str, allowed_schemes: Collection[str] = (), *, parameter: str = "repo") -> str:
    """Return ``url``, its scheme in lower case, if git may be run on it.

    :param url: ``https://…``, ``ssh://…``, ``[user@]host:path``, or what ``allowed_schemes`` adds.
    :param allowed_schemes: further schemes in lower case, such as ``file`` or ``http``.
    :param parameter: the name to blame in errors.
    :raises BadParameter: another scheme, ``x::`` transports, options in disguise, credentials in the URL.
    :raises NotSupported: ``codecommit::``.
    """
    shown = redact(url, ())
    if not url or url.startswith("-") or _CONTROL.search(unquote(url)):
        problem = "not a URL that git may be given (empty, leading '-', blank or control character)."
        raise BadParameter(parameter, shown, problem, "Write the URL as the git host shows it.")
    if url.lower().startswith("codecommit::"):
        raise NotSupported(parameter, shown, "codecommit:: is not supported yet.", "Use CodeCommit's HTTPS URL.")
    if _TRANSPORT_HELPER.match(url):
        raise BadParameter(parameter, shown, "git transport helpers (x::…) are refused.", "Use https:// or ssh.")
    scheme = _SCHEME.match(url)
    if scheme:
        _check_scheme(url, shown, scheme.group(1).lower(), allowed_schemes, parameter)
        return url[: scheme.end()].lower() + url[scheme.end() :]
    _check_scp_like(url, shown, parameter)
    return url


def _check_scheme(url: str, shown: str, scheme: str, allowed_schemes: Collection[str], parameter: str) -> None:
    if scheme not in DEFAULT_SCHEMES and scheme not in allowed_schemes:
        remedy = f"Use https or ssh, or add {scheme!r} to [sm_git] allowed_schemes."
        raise BadParameter(parameter, shown, f"the scheme {scheme!r} is not allowed.", remedy)
    try:
        parts = urlsplit(url)
        host = parts.hostname or ""
    except ValueError as error:
        raise BadParameter(parameter, shown, f"not a URL: {error}.") from error
    if parts.password is not None or (parts.username is not None and scheme != "ssh"):
        remedy = "Take them out of the URL and put them into a connection (git_conn_id)."
        raise BadParameter(parameter, shown, "credentials in the URL are refused.", remedy)
    if scheme in {"http", "https"} and (parts.query or parts.fragment):
        raise BadParameter(parameter, shown.split("?")[0], "a query or fragment is refused.", "Take it out.")
    if scheme != "file" and (not host or host.startswith("-") or (parts.username or "").startswith("-")):
        raise BadParameter(parameter, shown, "the URL names no usable host.")
    if not parts.path.strip("/"):
        raise BadParameter(parameter, shown, "the URL names no repository, only a host.")


def _check_scp_like(url: str, shown: str, parameter: str) -> None:
    match = _SCP_LIKE.fullmatch(url)
    if match is None:
        remedy = (
            "Write https://host/path or git@host:path; for a local one, file:///path with [sm_git] allowed_schemes."
        )
        raise BadParameter(parameter, shown, "not a remote URL.", remedy)
    if any((part or "").startswith("-") for part in match.group("user", "host", "path")):
        raise BadParameter(parameter, shown, "a part of the URL starts with '-'.")


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


def redact(text: str, secrets: Iterable[str]) -> str:
    """Return ``text`` without ``secrets`` (plain, percent-encoded, base64) and without logins in URLs."""
    for secret in sorted(filter(None, secrets), key=len, reverse=True):
        coded = base64.b64encode(secret.encode()).decode()
        for form in (secret, quote(secret, safe=""), quote_plus(secret), coded, coded.rstrip("=")):
            text = text.replace(form, "***")
    return _USER_IN_URL.sub(lambda match: match.group(0) if match.group(2) == "git" else f"{match.group(1)}***@", text)


def web_url(url: str, commit: str) -> str | None:
    """The page of ``commit`` at the host of ``url`` (GitHub, GitLab, Bitbucket, CodeCommit), or None."""
    where = _host_and_path(url)
    if where is None:
        return None
    host, path = where
    codecommit = re.fullmatch(r"git-codecommit(?:-fips)?\.([a-z0-9-]+)\.amazonaws\.com", host)
    if codecommit:
        region, name = codecommit.group(1), path.rpartition("/")[2]
        page = f"https://{region}.console.aws.amazon.com/codesuite/codecommit/repositories/{name}/commit/{commit}"
        return f"{page}?region={region}"
    if host == "bitbucket.org":
        return f"https://{host}/{path}/commits/{commit}"
    if host == "github.com" or host.startswith("github."):
        return f"https://{host}/{path}/commit/{commit}"
    if host == "gitlab.com" or host.startswith("gitlab."):
        return f"https://{host}/{path}/-/commit/{commit}"
    return None


def _host_and_path(url: str) -> tuple[str, str] | None:
    if _SCHEME.match(url):
        parts = urlsplit(url)
        if parts.scheme not in {"https", "http", "ssh"} or not parts.hostname:
            return None
        host, path = parts.hostname, parts.path
    else:
        match = _SCP_LIKE.fullmatch(url)
        if match is None:
            return None
        host, path = match.group("host").lower(), match.group("path")
    path = path.strip("/").removesuffix(".git")
    return (host, path) if path else None
