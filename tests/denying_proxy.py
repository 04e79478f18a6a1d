"""What an IAM policy does that allows all but one action: a proxy that refuses it, and passes the rest on as signed."""

from __future__ import annotations

import http.client
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import urlsplit


@dataclass
class DenyingProxy:
    """A running proxy.

    :param url: where it listens.
    :param denied: the action it refuses, such as ``DeleteEndpoint``; empty for none.
    :param refusals: the first value of each request that it refused, which names the resource.
    """

    url: str
    denied: str
    refusals: list[str] = field(default_factory=list)


@contextmanager
def denying_proxy(upstream: str, denied: str) -> Iterator[DenyingProxy]:
    """Run a proxy until the block ends.

    :param upstream: URL of the server that it passes requests on to.
    :param denied: the action to refuse.
    """
    target = urlsplit(upstream).netloc

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            action = self.headers.get("X-Amz-Target", "").rpartition(".")[2]
            if action == proxy.denied:
                proxy.refusals.append(next(iter(json.loads(body).values()), ""))
                message = f"User: arn:aws:iam::000000000000:user/test is not authorized to perform: sagemaker:{action}"
                answer = json.dumps({"__type": "AccessDeniedException", "Message": message}).encode()
                self._send(400, {"Content-Type": "application/x-amz-json-1.1"}, answer)
                return
            connection = http.client.HTTPConnection(target, timeout=60)
            connection.request("POST", self.path, body, dict(self.headers))  # the Host header is signed: it stays
            response = connection.getresponse()
            self._send(response.status, dict(response.getheaders()), response.read())
            connection.close()

        def _send(self, status: int, headers: dict[str, str], body: bytes) -> None:
            self.send_response(status)
            for name, value in headers.items():
                if name.lower() not in ("content-length", "transfer-encoding", "connection", "date", "server"):
                    self.send_header(name, value)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    proxy = DenyingProxy(f"http://127.0.0.1:{server.server_port}", denied)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield proxy
    finally:
        server.shutdown()
        server.server_close()
