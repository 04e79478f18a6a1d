"""A server that answers what the SageMaker SDK needs to train and deploy, and keeps what it is sent."""

from __future__ import annotations

import io
import json
import re
import tarfile
import threading
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

_CREATED = {
    "CreateTrainingJob": "TrainingJobArn",
    "CreateModel": "ModelArn",
    "CreateEndpointConfig": "EndpointConfigArn",
    "CreateEndpoint": "EndpointArn",
}
_BUCKETS = (
    b"<ListAllMyBucketsResult><Buckets><Bucket><Name>bucket</Name><CreationDate>2026-01-01T00:00:00Z</CreationDate>"
    b"</Bucket></Buckets></ListAllMyBucketsResult>"
)
_IDENTITY = (
    b"<GetCallerIdentityResponse><GetCallerIdentityResult><Arn>arn:aws:iam::000000000000:user/u</Arn><UserId>u</UserId>"
    b"<Account>000000000000</Account></GetCallerIdentityResult></GetCallerIdentityResponse>"
)


class Recorder:
    """What came in.

    :ivar requests: by access key id, by operation: the request (the last one, if there were several).
    :ivar objects: S3 objects by ``bucket/key``.
    :ivar unexpected: what nothing is known about; it was answered with 400.
    """

    def __init__(self) -> None:
        self.requests: dict[str, dict[str, dict[str, Any]]] = defaultdict(dict)
        self.objects: dict[str, bytes] = {}
        self.unexpected: list[str] = []
        self.url = ""

    def answer(self, case: str, operation: str, request: dict[str, Any]) -> dict[str, Any] | None:
        """The answer to a call of the SageMaker API, None where there is none."""
        if operation == "DescribeTrainingJob":
            return self._trained(self.requests[case]["CreateTrainingJob"])
        if operation not in _CREATED:
            return None
        assert operation not in self.requests[case], f"{case} sent {operation} twice"
        self.requests[case][operation] = request
        return {_CREATED[operation]: f"arn:aws:sagemaker:us-east-1:000000000000:made/{len(self.requests)}"}

    def _trained(self, job: dict[str, Any]) -> dict[str, Any]:
        model = f"{job['OutputDataConfig']['S3OutputPath'].rstrip('/')}/{job['TrainingJobName']}/output/model.tar.gz"
        self.objects.setdefault(model.removeprefix("s3://"), MODEL)
        return {**job, "TrainingJobStatus": "Completed", "ModelArtifacts": {"S3ModelArtifacts": model}}


@contextmanager
def recording() -> Iterator[Recorder]:
    """A recorder that listens on a port of its own."""
    recorder = Recorder()

    class Handler(_Handler):
        pass

    Handler.recorder = recorder
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    recorder.url = f"http://127.0.0.1:{server.server_port}"
    yield recorder
    server.shutdown()
    server.server_close()
    thread.join()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    recorder: Recorder

    def do_POST(self) -> None:
        operation = self.headers.get("X-Amz-Target", "").removeprefix("SageMaker.")
        found = re.search(r"Credential=([^/]+)/", self.headers.get("Authorization", ""))
        body = self._body()
        if body.startswith(b"Action=GetCallerIdentity"):
            self._reply(200, _IDENTITY)  # asked for the telemetry, which goes nowhere
            return
        request = json.loads(body)
        answer = self.recorder.answer(found.group(1), operation, request) if found else None
        if answer is None:
            self._unexpected(operation)
        else:
            self._reply(200, json.dumps(answer).encode())

    def do_PUT(self) -> None:
        self.recorder.objects[self._object()] = self._body()
        self._reply(200, b"")

    def do_HEAD(self) -> None:
        if not self._object():
            self._reply(200, _BUCKETS)
        elif self._object() in self.recorder.objects:
            self._reply(200, self.recorder.objects[self._object()])
        else:
            self._unexpected(self.path)

    do_GET = do_HEAD

    def _object(self) -> str:
        return self.path.partition("?")[0].strip("/")

    def _body(self) -> bytes:
        return self.rfile.read(int(self.headers.get("Content-Length", 0)))

    def _unexpected(self, what: str) -> None:
        self.recorder.unexpected.append(f"{self.command} {what}")
        self._reply(400, b"")

    def _reply(self, status: int, body: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("ETag", '"0"')
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def log_message(self, *_args: object) -> None:
        """Say nothing."""


def _model() -> bytes:
    made = io.BytesIO()
    with tarfile.open(fileobj=made, mode="w:gz") as tar:
        member = tarfile.TarInfo("weights.json")
        member.size = 2
        tar.addfile(member, io.BytesIO(b"{}"))
    return made.getvalue()


MODEL = _model()
"""The artefact of every training."""
