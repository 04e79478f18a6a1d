"""How to be let in over SSH, and how to know the host: what a connection of type ``git`` may say about it."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field

from airflow_sm_git.core.errors import BadParameter

CHECKING = ("yes", "no", "accept-new")
_SAME_CHECKING = {"off": "no", "false": "no", "true": "yes", "ask": "yes"}  # nobody is there to be asked
_BEGIN = re.compile(r"-----BEGIN (?:[A-Z0-9]+ )*PRIVATE KEY-----")
_END = re.compile(r"-----END (?:[A-Z0-9]+ )*PRIVATE KEY-----")
_PUBLIC = re.compile(r"(ssh|ecdsa|sk)-\S+ AAAA|-----BEGIN (?:[A-Z0-9]+ )*PUBLIC KEY|---- BEGIN SSH2 PUBLIC KEY")
_HOST_LINE = re.compile(r"^[ \t]*[^#\s]\S*[ \t]+\S+[ \t]+\S+", re.MULTILINE)
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")
_FROM = {  # field of a connection's extra: field of SshAccess
    "private_key": "private_key",
    "key_file": "key_file",
    "private_key_passphrase": "passphrase",
    "known_hosts": "known_hosts",
    "known_hosts_file": "known_hosts_file",
    "strict_host_key_checking": "strict_host_key_checking",
    "host_proxy_cmd": "proxy_command",
    "ssh_port": "port",
    "ssh_config_file": "config_file",
    "connect_timeout": "connect_timeout",
}
FIELDS = tuple(_FROM)


@dataclass(frozen=True)
class SshAccess:
    """A key, and how to reach and to know the host. Secrets are left out of the repr.

    Without a key, the worker's own keys and agent are used. Errors name the connection's fields.

    :param private_key: text of a private key in any form that ssh-add(1) reads.
    :param key_file: path on the worker of a file with such a text; read when it is used.
    :param passphrase: of the key.
    :param known_hosts: lines as in a known_hosts file (sshd(8)); no other host key is trusted then.
    :param known_hosts_file: path on the worker of such a file; both may be given.
    :param strict_host_key_checking: ``yes``, ``no`` or ``accept-new`` (ssh_config(5)); None: yes if known hosts are
        given, else accept-new.
    :param proxy_command: program to reach the host through (ssh_config(5), ProxyCommand).
    :param port: of the host, where the URL names none.
    :param config_file: ssh_config(5) to read; with a key, the worker's own configuration is not read.
    :param connect_timeout: seconds until the host must have answered.
    :param user: whom to log in as, where the URL does not say.
    :raises BadParameter: a value that cannot work.
    """

    private_key: str | None = field(default=None, repr=False)
    key_file: str | None = None
    passphrase: str | None = field(default=None, repr=False)
    known_hosts: str | None = None
    known_hosts_file: str | None = None
    strict_host_key_checking: str | None = None
    proxy_command: str | None = field(default=None, repr=False)
    port: int | None = None
    config_file: str | None = None
    connect_timeout: int = 20
    user: str | None = None

    def __post_init__(self) -> None:
        if self.private_key and self.key_file:
            remedy = "Give one of the two."
            raise BadParameter("key_file", self.key_file, "given together with private_key.", remedy)
        if self.passphrase and not self.has_key:
            remedy = "Give private_key or key_file too."
            raise BadParameter("private_key_passphrase", "***", "is given without a key.", remedy)
        if self.private_key:
            object.__setattr__(self, "private_key", check_private_key(self.private_key))
        if _CONTROL.search(self.passphrase or ""):
            remedy = "Take it out; the end of a file's last line often gets in."
            raise BadParameter("private_key_passphrase", "***", "has a line end or another control character.", remedy)
        if self.strict_host_key_checking not in (*CHECKING, None):
            value, remedy = self.strict_host_key_checking, f"Write one of {', '.join(CHECKING)}."
            raise BadParameter("strict_host_key_checking", value, "is not known.", remedy)
        if self.port is not None and not 0 < self.port < 65536:
            raise BadParameter("ssh_port", self.port, "is not a port.", "Write a number from 1 to 65535.")
        if self.connect_timeout < 1:
            raise BadParameter("connect_timeout", self.connect_timeout, "must be at least 1 second.")
        if self.user and (self.user.startswith("-") or _CONTROL.search(self.user)):
            raise BadParameter("login", self.user, "is no user name that ssh may be given.")
        if self.known_hosts:
            object.__setattr__(self, "known_hosts", _check_known_hosts(self.known_hosts))

    @property
    def has_key(self) -> bool:
        """Whether it brings a key of its own."""
        return bool(self.private_key or self.key_file)

    @property
    def checking(self) -> str:
        """How host keys are checked: ``yes``, ``no`` or ``accept-new``."""
        given = bool(self.known_hosts or self.known_hosts_file)
        return self.strict_host_key_checking or ("yes" if given else "accept-new")

    def secrets(self) -> tuple[str, ...]:
        """Everything that must never be shown: the passphrase, and each line of the key."""
        return tuple(filter(None, (self.passphrase, *key_lines(self.private_key or ""))))


def key_lines(private_key: str) -> tuple[str, ...]:
    """The lines of a key that are nobody's business: neither its frame nor the short headers of old forms."""
    lines = (line.strip() for line in private_key.splitlines())
    return tuple(line for line in lines if len(line) >= 16 and not line.startswith("-----") and ": " not in line)


def check_private_key(text: str, parameter: str = "private_key") -> str:
    """Return a private key as ssh-add(1) wants it: line ends as on Unix, one at the end.

    A text whose line ends were written as ``\\n``, as JSON and environment files need them, is read as meant.

    :param parameter: the name to blame in errors.
    :raises BadParameter: not the text of a private key.
    """
    text = _with_line_ends(text).strip()
    remedy = "Paste the whole text of the private key, from '-----BEGIN …' to '-----END …-----'."
    if _PUBLIC.match(text):
        raise BadParameter(parameter, "***", "is a public key.", f"{remedy} It is the file without '.pub'.")
    if text.startswith("PuTTY-User-Key-File"):
        raise BadParameter(parameter, "***", "is a PuTTY key.", "Export it in OpenSSH format with PuTTYgen.")
    if not _BEGIN.match(text) or not _END.search(text):
        raise BadParameter(parameter, "***", "is not the text of a private key.", remedy)
    if "\n" not in text:
        raise BadParameter(parameter, "***", "has lost its line ends.", f"{remedy} Write line ends as \\n in JSON.")
    return "".join(f"{line.strip()}\n" for line in text.split("\n"))


def _check_known_hosts(text: str) -> str:
    text = _with_line_ends(text).strip() + "\n"
    if not _HOST_LINE.search(text):
        remedy = "Paste lines as 'ssh-keyscan HOST' prints them, after checking them against the host's own page."
        raise BadParameter("known_hosts", "***", "has no line of a host, a key type and a key.", remedy)
    return text


def _with_line_ends(text: str) -> str:
    text = text.strip().replace("\r\n", "\n")
    return text if "\n" in text else text.replace("\\r\\n", "\n").replace("\\n", "\n")


def read_ssh(extra: Mapping[str, object], user: str | None = None) -> SshAccess:
    """Read the SSH fields of a connection's extra.

    Field names: apache-airflow-providers-git 1.0, hooks/git.py; ``known_hosts`` and ``connect_timeout`` are ours.

    :param user: the connection's login.
    :raises BadParameter: a value of the wrong type, or one that cannot work.
    """
    values: dict[str, str] = {}
    for name in FIELDS:
        value = extra.get(name)
        if isinstance(value, bool):
            value = str(value).lower()
        if value is None or value == "":
            continue
        if not isinstance(value, (str, int)):
            raise BadParameter(name, "***", "must be a string.", "Correct it in the connection's extra.")
        values[_FROM[name]] = str(value)
    checking = values.pop("strict_host_key_checking", None)
    port, timeout = (_number(name, values.pop(_FROM[name], None)) for name in ("ssh_port", "connect_timeout"))
    return SshAccess(
        private_key=values.get("private_key"),
        key_file=values.get("key_file"),
        passphrase=values.get("passphrase"),
        known_hosts=values.get("known_hosts"),
        known_hosts_file=values.get("known_hosts_file"),
        strict_host_key_checking=_SAME_CHECKING.get(checking.lower(), checking.lower()) if checking else None,
        proxy_command=values.get("proxy_command"),
        port=port,
        config_file=values.get("config_file"),
        connect_timeout=20 if timeout is None else timeout,
        user=user or None,
    )


def _number(name: str, text: str | None) -> int | None:
    if text is None:
        return None
    if not re.fullmatch(r"\d{1,9}", text.strip()):
        raise BadParameter(name, text, "is not a number.", "Write digits alone.")
    return int(text)
