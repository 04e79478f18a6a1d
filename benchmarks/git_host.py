"""``python -m benchmarks.git_host ROOT``: git over HTTP on loopback, streamed; ``/_count`` tells the bytes sent."""

from __future__ import annotations

import gzip
import os
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import urlsplit

_CHUNK = 1 << 16


class _Host(ThreadingHTTPServer):
    daemon_threads = True
    sent = 0
    lock = threading.Lock()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    wbufsize = _CHUNK

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing."""

    def do_GET(self) -> None:
        """Answer what is asked before a fetch, and the count."""
        if self.path == "/_count":
            body = str(self.server.sent).encode()  # type: ignore[attr-defined]
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)
            return
        self._answer(b"")

    def do_POST(self) -> None:
        """Answer a fetch."""
        if self.headers.get("Transfer-Encoding") == "chunked":
            body = b""
            while size := int(self.rfile.readline(), 16):
                body += self.rfile.read(size)
                self.rfile.readline()
            self.rfile.readline()
        else:
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        self._answer(gzip.decompress(body) if self.headers.get("Content-Encoding") == "gzip" else body)

    def _answer(self, body: bytes) -> None:
        parts = urlsplit(self.path)
        environment = {
            "PATH": os.environ["PATH"],
            "GIT_PROJECT_ROOT": sys.argv[1],
            "GIT_HTTP_EXPORT_ALL": "1",
            "PATH_INFO": parts.path,
            "QUERY_STRING": parts.query,
            "REQUEST_METHOD": self.command,
            "CONTENT_TYPE": self.headers.get("Content-Type", ""),
            "CONTENT_LENGTH": str(len(body)),
            "GIT_PROTOCOL": self.headers.get("Git-Protocol", ""),
            "REMOTE_ADDR": "127.0.0.1",
        }
        with subprocess.Popen(
            ["git", "http-backend"], env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE
        ) as backend:
            assert backend.stdin and backend.stdout
            threading.Thread(target=lambda: (backend.stdin.write(body), backend.stdin.close())).start()  # type: ignore[union-attr]
            headers = {}
            while line := backend.stdout.readline().strip():
                name, _, value = line.decode().partition(": ")
                headers[name] = value
            self.send_response(int(headers.pop("Status", "200").split()[0]))
            for name, value in headers.items():
                self.send_header(name, value)
            self.send_header("Connection", "close")
            self.end_headers()
            self.close_connection = True
            while chunk := backend.stdout.read1(_CHUNK):
                self.wfile.write(chunk)
                with self.server.lock:  # type: ignore[attr-defined]
                    self.server.sent += len(chunk)  # type: ignore[attr-defined]


if __name__ == "__main__":
    host = _Host(("127.0.0.1", 0), _Handler)
    print(host.server_address[1], flush=True)
    host.serve_forever()
