"""One request on its way through the server, and reading its body without holding more of it than a chunk."""

from __future__ import annotations

import uuid
from collections.abc import AsyncIterator
from dataclasses import dataclass, field

from starlette.requests import ClientDisconnect
from starlette.types import Receive

from airflow_sm_git.local.auth import Caller, Request
from airflow_sm_git.local.errors import api_error


@dataclass
class Exchange:
    """A request, who sent it, and what the request log shall say about it.

    :param request: its signed parts.
    :param receive: ASGI's source of the body.
    :param action: the API's name for what is asked, once known.
    :param resource: the name of what it is asked for, once known.
    :param client: the port that the client asks from.
    :param fault: the kind of the fault that acted on it.
    :param stale: the rule that makes its listing stale.
    """

    request: Request
    receive: Receive
    caller: Caller | None = None
    id: str = field(default_factory=lambda: str(uuid.uuid4()))
    service: str = ""
    action: str = ""
    resource: str = ""
    drained: bool = False
    client: int = 0
    fault: str = ""
    stale: str = ""

    async def chunks(self) -> AsyncIterator[bytes]:
        """The body as it arrives.

        :raises ClientDisconnect: the client went away before its end.
        """
        while not self.drained:
            message = await self.receive()
            if message["type"] == "http.disconnect":
                raise ClientDisconnect
            self.drained = not message.get("more_body", False)
            if data := message.get("body", b""):
                yield data

    async def settle(self, limit: int) -> bool:
        """Make the connection fit for another request after a refusal; False where it must be closed instead.

        A client that waits for "100 Continue" never sends the body of a refused request. Others are sending it
        already and read the answer afterwards only.

        :param limit: bytes to read and forget at most.
        """
        if not self.drained and self.request.header("expect").lower() != "100-continue":
            async for chunk in self.chunks():
                limit -= len(chunk)
                if limit < 0:
                    break
        return self.drained

    async def body(self, limit: int) -> bytes:
        """The whole body.

        :param limit: size in bytes beyond which it is refused.
        :raises ApiError: it is larger.
        """
        data = bytearray()
        async for chunk in self.chunks():
            data += chunk
            if len(data) > limit:
                raise api_error("any.too_large", limit=limit)
        return bytes(data)
