"""A real git server on loopback (``git http-backend`` behind :mod:`http.server`), and repositories to put behind it."""

from __future__ import annotations

import base64
import contextlib
import gzip
import os
import re
import signal
import socket
import ssl
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import urlsplit

_RESULT = "application/x-git-upload-pack-result"
# 2024-01-01T00:00:00Z; commit n is made n hours later, unless it says otherwise.
FIRST_COMMIT = 1_704_067_200
_ENVIRONMENT = {
    "PATH": os.environ["PATH"],
    "HOME": "/nonexistent",
    "GIT_CONFIG_GLOBAL": "/dev/null",
    "GIT_CONFIG_NOSYSTEM": "1",
    "LC_ALL": "C",
}


def git(*arguments: str | Path, stdin: bytes = b"") -> str:
    """Run git as a user would; return what it printed."""
    command = ["git", *map(str, arguments)]
    done = subprocess.run(command, input=stdin, env=_ENVIRONMENT, capture_output=True, check=False)
    assert done.returncode == 0, done.stderr.decode()
    return done.stdout.decode().strip()


class Repository:
    """A bare repository whose commits have the same names on every machine.

    :param path: where to make it.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._count = 0
        git("init", "-q", "--bare", "--template=", "-b", "main", path)
        git("-C", path, "config", "uploadpack.allowFilter", "true")

    @property
    def url(self) -> str:
        """For clients that may use the scheme ``file``."""
        return f"file://{self.path}"

    def commit(
        self,
        files: Mapping[str, bytes | None] = {},
        *,
        branch: str = "main",
        executable: Sequence[str] = (),
        links: Mapping[str, str] = {},
        submodules: Sequence[str] = (),
        start: str | None = None,
        merge: str | None = None,
        subject: str = "",
        hours: int = 1,
    ) -> str:
        """Add one commit to a branch, some hours after the last; return its SHA. None as content removes a file."""
        self._count += hours
        when = f"A U Thor <author@example.com> {FIRST_COMMIT + 3600 * self._count} +0000"
        message = (subject or f"commit {self._count}").encode()
        lines = [f"commit refs/heads/{branch}\nauthor {when}\ncommitter {when}\ndata {len(message)}\n".encode()]
        lines += [message, b"\n"]
        tip = start or self._tip(branch)
        lines += [f"from {tip}\n".encode()] if tip else []
        lines += [f"merge {merge}\n".encode()] if merge else []
        for path, content in files.items():
            mode = "100755" if path in executable else "100644"
            lines.append(f"D {path}\n".encode() if content is None else _inline(mode, path, content))
        lines += [_inline("120000", path, target.encode()) for path, target in links.items()]
        lines += [f"M 160000 {'1' * 40} {path}\n".encode() for path in submodules]
        git("-C", self.path, "fast-import", "--quiet", "--force", stdin=b"".join(lines))
        return self.sha(f"refs/heads/{branch}")

    def commits(self, files: Sequence[Mapping[str, bytes]], *, branch: str = "main") -> list[str]:
        """Add many commits at once to a branch, an hour apart; return their SHAs, oldest first."""
        tip = self._tip(branch)
        lines = [f"reset refs/heads/{branch}\nfrom {tip}\n".encode()] if tip else []
        for changes in files:
            self._count += 1
            when = f"A U Thor <author@example.com> {FIRST_COMMIT + 3600 * self._count} +0000"
            subject = f"commit {self._count}"
            lines.append(f"commit refs/heads/{branch}\ncommitter {when}\ndata {len(subject)}\n{subject}\n".encode())
            lines += [_inline("100644", path, content) for path, content in changes.items()]
        git("-C", self.path, "fast-import", "--quiet", "--force", stdin=b"".join(lines))
        newest = git("-C", self.path, "rev-list", f"--max-count={len(files)}", f"refs/heads/{branch}").split()
        return newest[::-1]

    def sha(self, name: str) -> str:
        """What a name stands for."""
        return git("-C", self.path, "rev-parse", name)

    def _tip(self, branch: str) -> str:
        return git("-C", self.path, "for-each-ref", "--format=%(objectname)", f"refs/heads/{branch}")

    def tag(self, name: str, target: str, *, annotated: bool = False) -> None:
        """Make a light or an annotated tag."""
        identity = ["-c", "user.name=A U Thor", "-c", "user.email=author@example.com"]
        git("-C", self.path, *identity, "tag", *(["-a", "-m", name] if annotated else []), name, target)

    def move(self, branch: str, target: str) -> None:
        """Make a branch name another commit."""
        git("-C", self.path, "update-ref", f"refs/heads/{branch}", target)

    def forget(self, *commits: str) -> None:
        """Remove everything that no ref leads to."""
        git("-C", self.path, "reflog", "expire", "--expire=now", "--all")
        git("-C", self.path, "gc", "-q", "--prune=now")
        for commit in commits:
            gone = subprocess.run(["git", "-C", self.path, "cat-file", "-e", commit], capture_output=True, check=False)
            assert gone.returncode, "the commit is still there"


def _inline(mode: str, path: str, content: bytes) -> bytes:
    return f"M {mode} inline {path}\ndata {len(content)}\n".encode() + content + b"\n"


@dataclass
class Request:
    """One request that the server answered."""

    method: str
    path: str
    body: bytes
    authorization: str | None
    status: int = 0
    sent: int = 0
    length: int = 0
    packs: int = 0

    @property
    def wanted(self) -> list[str]:
        """The objects that it asks for by name."""
        return [line.split()[1].decode() for line in re.findall(rb"want [0-9a-f]{40}", self.body)]

    @property
    def in_mid_pack(self) -> bool:
        """Whether a pack was begun and is not at its end."""
        return bool(self.packs) and 0 < self.sent < self.length


@dataclass
class GitServer:
    """What is running, and what it saw.

    :param login: user name and password to insist on.
    :param old: speak protocol version 0, where git does keep back commits that no ref names.
    :param bearer: token to insist on.
    :param scheme: ``http``, or ``https`` behind TLS.
    :param redirect: the root of another server, to send everybody to who is let in.
    :param judge: decides by the header Authorization and the path who is let in.
    :param broken: answer every request that is let in with an internal error.
    :param no_filters: know of no object filters.
    :param no_names: give no object by name, but for the tips of refs. (Under protocol version 2 git's own setting
        ``uploadpack.allowAnySHA1InWant=false`` means nothing.)
    :param pace: bytes of a pack to send at once, and seconds to wait after each.
    :param halt: bytes of a pack to send before sending no more.
    """

    port: int
    login: tuple[str, str] | None = None
    old: bool = False
    bearer: str | None = None
    scheme: str = "http"
    redirect: str | None = None
    judge: Callable[[str | None, str], bool] | None = None
    broken: bool = False
    no_filters: bool = False
    no_names: bool = False
    pace: tuple[int, float] | None = None
    halt: int | None = None
    ended: threading.Event = field(default_factory=threading.Event)
    requests: list[Request] = field(default_factory=list)
    stalled: threading.Event | None = None

    def url(self, name: str) -> str:
        """Where clients find the repository ``name``."""
        return f"{self.scheme}://127.0.0.1:{self.port}/{name}"

    @property
    def authorizations(self) -> set[str | None]:
        """What clients sent as the header Authorization, and None for those that sent none."""
        return {request.authorization for request in self.requests}

    def challenge(self, authorization: str | None, path: str) -> dict[str, str]:
        """The header that asks a client for another login; empty if it may come in."""
        if self.judge and not self.judge(authorization, path):
            return {"WWW-Authenticate": 'Basic realm="git"'}
        if self.bearer and authorization != f"Bearer {self.bearer}":
            return {"WWW-Authenticate": 'Bearer realm="git"'}
        if self.login and authorization != _basic(*self.login):
            return {"WWW-Authenticate": 'Basic realm="git"'}
        return {}

    @property
    def sent(self) -> int:
        """Bytes of all bodies sent."""
        return sum(request.sent for request in self.requests)

    @property
    def packs(self) -> int:
        """How many answers held a pack."""
        return sum(request.packs for request in self.requests)


@contextmanager
def serve(
    root: Path, *, login: tuple[str, str] | None = None, old: bool = False, tls: ssl.SSLContext | None = None
) -> Iterator[GitServer]:
    """Serve the bare repositories below ``root`` on a free port of loopback.

    :param tls: the server's certificate, to speak HTTPS.
    """
    httpd = _Server(("127.0.0.1", 0), _Handler)
    server = GitServer(httpd.server_address[1], login, old)
    if tls:
        server.scheme = "https"
        # The handshake is left to the thread of the connection: a client that stalls in it holds nobody else up.
        httpd.socket = tls.wrap_socket(httpd.socket, server_side=True, do_handshake_on_connect=False)
    httpd.root, httpd.git = root, server  # type: ignore[attr-defined]
    thread = threading.Thread(target=httpd.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield server
    finally:
        server.ended.set()
        if server.stalled:
            server.stalled.set()
        httpd.shutdown()
        httpd.server_close()
        thread.join()


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, request: object, client_address: object) -> None:
        """Let a client go that hangs up, or that does not trust the certificate; say what else went wrong."""
        if not isinstance(sys.exception(), OSError):
            super().handle_error(request, client_address)  # type: ignore[arg-type]


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True  # as servers do: else each answer waits 40 ms for the client's delayed ACK

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing: the requests are kept instead."""

    def do_GET(self) -> None:
        self._answer(b"")

    def do_POST(self) -> None:
        self._answer(self._body())

    def _authorization(self) -> str | None:
        said = self.headers.get("Authorization")  # which http.server takes for Latin-1
        return said.encode("latin-1").decode(errors="replace") if said else None

    def _body(self) -> bytes:
        if self.headers.get("Transfer-Encoding") != "chunked":
            return self.rfile.read(int(self.headers.get("Content-Length", 0)))
        body = b""
        while size := int(self.rfile.readline(), 16):
            body += self.rfile.read(size)
            self.rfile.readline()
        self.rfile.readline()
        return body

    def _answer(self, body: bytes) -> None:
        server: GitServer = self.server.git  # type: ignore[attr-defined]
        plain = gzip.decompress(body) if self.headers.get("Content-Encoding") == "gzip" else body
        request = Request(self.command, self.path, plain, self._authorization())
        server.requests.append(request)
        if server.stalled and self.command == "POST":
            server.stalled.wait()
        if challenge := server.challenge(request.authorization, urlsplit(self.path).path):
            self._send(request, 401, challenge, b"who are you?\n")
            return
        if server.redirect:
            self._send(request, 302, {"Location": server.redirect + self.path}, b"")
            return
        if server.broken:
            self._send(request, 500, {}, b"this server is broken\n")
            return
        if server.no_names and (strange := self._strange(request.wanted)):
            self._send(request, 200, {"Content-Type": _RESULT}, _packet(f"ERR upload-pack: not our ref {strange[0]}"))
            return
        head, _, content = self._backend(server, plain).partition(b"\r\n\r\n")
        headers = dict(line.split(": ", 1) for line in head.decode().split("\r\n") if line)
        status = int(headers.pop("Status", "200").split()[0])
        request.packs = content.count(b"PACK\0\0\0\x02")
        self._send(request, status, headers, content)

    def _strange(self, wanted: Sequence[str]) -> list[str]:
        """Which of the objects are not the tip of a ref."""
        path = self.server.root / self.path.removesuffix("/git-upload-pack").lstrip("/")  # type: ignore[attr-defined]
        tips = git("-C", path, "for-each-ref", "--format=%(objectname)").split() if wanted else []
        return [name for name in wanted if name not in tips]

    def _backend(self, server: GitServer, body: bytes) -> bytes:
        parts = urlsplit(self.path)
        environment = _ENVIRONMENT | {
            "GIT_PROJECT_ROOT": str(self.server.root),  # type: ignore[attr-defined]
            "GIT_HTTP_EXPORT_ALL": "1",
            "PATH_INFO": parts.path,
            "QUERY_STRING": parts.query,
            "REQUEST_METHOD": self.command,
            "CONTENT_TYPE": self.headers.get("Content-Type", ""),
            "CONTENT_LENGTH": str(len(body)),
            "REMOTE_ADDR": "127.0.0.1",
        }
        if server.no_filters:
            config = {"COUNT": "1", "KEY_0": "uploadpack.allowFilter", "VALUE_0": "false"}
            environment |= {f"GIT_CONFIG_{name}": value for name, value in config.items()}
        if not server.old:
            environment["GIT_PROTOCOL"] = self.headers.get("Git-Protocol", "")
        command = ["git", "http-backend"]
        return subprocess.run(command, input=body, env=environment, capture_output=True, check=False).stdout

    def _send(self, request: Request, status: int, headers: Mapping[str, str], content: bytes) -> None:
        request.status, request.length = status, len(content)
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        server: GitServer = self.server.git  # type: ignore[attr-defined]
        size, pause = server.pace if server.pace and request.packs else (len(content), 0)
        end = server.halt if server.halt and request.packs else len(content)
        while request.sent < min(end, len(content)):
            request.sent += self.wfile.write(content[request.sent : min(request.sent + size, end)])
            if pause:
                server.ended.wait(pause)
        if end < len(content):
            server.ended.wait()


def _packet(text: str) -> bytes:
    """One line as git sends it (gitprotocol-common(5), pkt-line)."""
    return f"{len(text) + 4:04x}{text}".encode()


@contextmanager
def daemon(root: Path) -> Iterator[str]:
    """Serve the bare repositories below ``root`` with ``git daemon``; yields the URL of its root."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    options = ["--export-all", "--reuseaddr", "--listen=127.0.0.1", f"--port={port}", f"--base-path={root}"]
    process = subprocess.Popen(
        ["git", "daemon", *options, str(root)], env=_ENVIRONMENT, stderr=subprocess.PIPE, start_new_session=True
    )
    try:
        while True:
            with contextlib.suppress(ConnectionRefusedError):
                socket.create_connection(("127.0.0.1", port), timeout=5).close()
                break
            assert process.poll() is None, "git daemon did not start"
            time.sleep(0.02)
        yield f"git://127.0.0.1:{port}"
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.communicate()


def _basic(user: str, password: str) -> str:
    return "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()
