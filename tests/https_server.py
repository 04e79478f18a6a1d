"""The git server behind TLS, also under the names of hosts on the internet."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from tests.git_server import GitServer, serve
from tests.tunnel import certificate, pump

HOSTS = (
    "git-codecommit.eu-west-1.amazonaws.com",
    "git-codecommit.us-east-1.amazonaws.com",
    "github.com",
    "gitlab.com",
    "bitbucket.org",
)


@contextmanager
def serve_https(root: Path, folder: Path, **options: Any) -> Iterator[tuple[GitServer, Path]]:
    """Serve the bare repositories below ``root`` over HTTPS.

    :param folder: where the certificate is put, which is valid for 127.0.0.1 and `HOSTS`.
    :param options: those of :func:`tests.git_server.serve`.
    :return: the server, and the file of its certificate, which git must be told of.
    """
    tls, authority = certificate(folder, *HOSTS)
    with serve(root, tls=tls, **options) as server:
        yield server, authority


@contextmanager
def proxy_to(port: int) -> Iterator[str]:
    """An HTTP proxy that leads every host to a port of 127.0.0.1; its URL."""
    listener = socket.create_server(("127.0.0.1", 0))
    threads: list[threading.Thread] = []
    sockets: list[socket.socket] = []

    def accept() -> None:
        with suppress(OSError):
            while True:
                near, _ = listener.accept()
                head = b""
                while b"\r\n\r\n" not in head:
                    head += near.recv(1)
                far = socket.create_connection(("127.0.0.1", port))
                near.sendall(b"HTTP/1.1 200 here you are\r\n\r\n")
                sockets.extend((near, far))
                for pair in ((near, far), (far, near)):
                    threads.append(threading.Thread(target=pump, args=(*pair, None)))
                    threads[-1].start()

    acceptor = threading.Thread(target=accept)
    acceptor.start()
    try:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
    finally:
        for one in (listener, *sockets):
            with suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)
            one.close()
        for thread in (acceptor, *threads):
            thread.join(10)
