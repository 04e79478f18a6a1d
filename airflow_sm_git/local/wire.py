"""How answers look on the wire: AWS JSON 1.1, the Query protocol and S3's XML.

Source: Smithy, AWS protocols ("AWS JSON 1.1", "AWS query", "AWS restXml"); Amazon S3 API reference.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from email.utils import formatdate
from typing import Any
from xml.sax.saxutils import escape

from starlette.responses import Response

from airflow_sm_git.local.errors import ApiError

Node = Mapping[str, Any] | Sequence[Any] | str | int | None
S3_NAMESPACE = "http://s3.amazonaws.com/doc/2006-03-01/"
_HEADER = '<?xml version="1.0" encoding="UTF-8"?>\n'
_JSON = "application/x-amz-json-1.1"


def json_response(body: object, status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    """An answer of a JSON 1.1 service."""
    return Response(json.dumps(body), status, headers, _JSON)


def json_error(error: ApiError) -> Response:
    """A refusal of a JSON service: the code in ``__type`` and in a header, the text in ``message``."""
    body = {"__type": error.code, "message": error.message, "Message": error.message, **error.extra}
    return json_response(body, error.status, {"x-amzn-ErrorType": error.code})


def to_xml(name: str, node: Node, namespace: str = "") -> str:
    """An element. Mappings nest, sequences repeat the element, None leaves it out."""
    if node is None:
        return ""
    if isinstance(node, Mapping):
        inner = "".join(to_xml(key, value) for key, value in node.items())
    elif isinstance(node, Sequence) and not isinstance(node, str):
        return "".join(to_xml(name, item) for item in node)
    elif isinstance(node, bool):
        inner = "true" if node else "false"
    else:
        inner = escape(str(node), {"\r": "&#13;"})
    attribute = f' xmlns="{namespace}"' if namespace else ""
    return f"<{name}{attribute}>{inner}</{name}>"


def xml_response(
    name: str, node: Node, namespace: str = S3_NAMESPACE, headers: Mapping[str, str] | None = None
) -> Response:
    """An answer in XML with one root element."""
    return Response(_HEADER + to_xml(name, node, namespace), 200, headers, "application/xml")


def query_response(action: str, result: Node, namespace: str, request_id: str) -> Response:
    """An answer of a Query service."""
    body: Node = {f"{action}Result": result, "ResponseMetadata": {"RequestId": request_id}}
    return Response(to_xml(f"{action}Response", body, namespace), 200, media_type="text/xml")


def query_error(error: ApiError, request_id: str) -> Response:
    """A refusal of a Query service."""
    kind = "Sender" if error.status < 500 else "Receiver"
    body: Node = {"Error": {"Type": kind, "Code": error.code, "Message": error.message}, "RequestId": request_id}
    return Response(to_xml("ErrorResponse", body), error.status, media_type="text/xml")


def s3_error(error: ApiError, request_id: str, *, head: bool) -> Response:
    """A refusal of S3; without a body for HEAD and for 304."""
    if head or error.status == 304:
        return Response(None, error.status)
    extra = {key: str(value) for key, value in error.extra.items()}
    body: Node = {"Code": error.code, "Message": error.message, **extra, "RequestId": request_id}
    return Response(_HEADER + to_xml("Error", body), error.status, media_type="application/xml")


def iso(seconds: float) -> str:
    """Epoch seconds in the form of S3's XML, to the millisecond."""
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%S.") + f"{int(seconds * 1000) % 1000:03d}Z"


def http_date(seconds: float) -> str:
    """Epoch seconds in the form of HTTP's headers."""
    return formatdate(seconds, usegmt=True)
