"""How a user's serving functions are called: the semantics of sagemaker-inference 1.10 (``transformer.py`` and the
modules beside it), with the context and the response encoding of multi-model-server (``context.py``,
``protocol/otf_message_handler.py``). Standard library only; NumPy and SciPy are imported when a default codec needs
them.

Loaded as a file of its own into the model's process, so it must not import its siblings.
"""

from __future__ import annotations

import importlib
import importlib.util
import io
import json
import re
import sys
import traceback
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from inspect import signature
from typing import Any

JSON, CSV, NPY, NPZ = "application/json", "text/csv", "application/x-npy", "application/x-npz"
CUSTOM_ATTRIBUTES = "X-Amzn-SageMaker-Custom-Attributes"
HEADER_LIMIT = 1024
"""Characters of a content type and of custom attributes (SageMaker Runtime API reference, InvokeEndpoint)."""
_NOT_IN_HEADERS = re.compile(r"[^\t\x20-\x7e]")  # RFC 9110, 5.5, and the API reference's pattern: ASCII


class UnsupportedFormatError(Exception):
    """No default codec for a content type."""

    def __init__(self, content_type: str | None) -> None:
        super().__init__(
            f"Content type {content_type} is not supported by this framework.\n\n"
            "Please implement input_fn to to deserialize the request data or an output_fn to\n"
            "serialize the response. For more information, see the SageMaker Python SDK README."
        )


class ReplyError(Exception):
    """What the handlers returned cannot be sent; the text says what it was."""


@dataclass(frozen=True)
class Request:
    """One invocation: body, and the headers that were given, by name."""

    body: bytes
    headers: Mapping[str, str]


@dataclass(frozen=True)
class Response:
    """The answer to one invocation."""

    status: int
    content_type: str
    body: bytes
    custom_attributes: str | None = None


class RequestProcessor:
    """Headers of one request and of its response, as ``context.request_processor[0]`` offers them."""

    def __init__(self, headers: Mapping[str, str]) -> None:
        self._request = dict(headers)
        self._response: dict[str, str] = {}
        self._status: int = 200
        self._phrase: str | None = None

    def get_request_properties(self) -> dict[str, str]:
        """All request headers."""
        return self._request

    def get_request_property(self, key: str) -> str | None:
        """One request header."""
        return self._request.get(key)

    def report_status(self, code: int, reason_phrase: str | None = None) -> None:
        """Set the response's status."""
        self._status, self._phrase = code, reason_phrase

    def get_response_status_code(self) -> int:
        """The response's status."""
        return self._status

    def get_response_status_phrase(self) -> str | None:
        """The response's reason phrase."""
        return self._phrase

    def add_response_property(self, key: str, value: str) -> None:
        """Set a response header."""
        self._response[key] = value

    def get_response_headers(self) -> dict[str, str]:
        """All response headers set so far."""
        return self._response


class Context:
    """What a handler that takes a ``context`` gets: one for the model's life, its request a new one each time."""

    def __init__(self, model_dir: str) -> None:
        self.model_name = "model"
        self.manifest: dict[str, Any] = {}
        self.system_properties = {
            "model_dir": model_dir,
            "gpu_id": None,
            "batch_size": 1,
            "server_name": "airflow-sm-git local",
            "server_version": "1",
        }
        self.request_processor: list[RequestProcessor] = []
        self.request_ids: dict[int, str] = {0: "0"}
        self.metrics = None

    def get_request_id(self, idx: int = 0) -> str | None:
        """Id of the request."""
        return self.request_ids.get(idx)

    def get_request_header(self, idx: int, key: str) -> str | None:
        """A request header."""
        return self.request_processor[idx].get_request_property(key)

    def get_all_request_header(self, idx: int) -> dict[str, str]:
        """All request headers."""
        return self.request_processor[idx].get_request_properties()

    def set_response_content_type(self, idx: int, value: str) -> None:
        """Set the response's content type."""
        self.request_processor[idx].add_response_property("content-type", value)

    def get_response_content_type(self, idx: int) -> str | None:
        """The response's content type, if set."""
        return self.request_processor[idx].get_response_headers().get("content-type")

    def set_response_header(self, idx: int, key: str, value: str) -> None:
        """Set a response header."""
        self.request_processor[idx].add_response_property(key, value)

    def get_response_headers(self, idx: int) -> dict[str, str]:
        """All response headers set so far."""
        return self.request_processor[idx].get_response_headers()

    def set_response_status(self, code: int = 200, phrase: str = "", idx: int = 0) -> None:
        """Set the response's status."""
        self.request_processor[idx].report_status(code, phrase)

    def get_response_status(self, idx: int) -> tuple[int, str | None]:
        """The response's status and reason phrase."""
        processor = self.request_processor[idx]
        return processor.get_response_status_code(), processor.get_response_status_phrase()


class Service:
    """A loaded model and the functions that serve it.

    :param program: value of ``SAGEMAKER_PROGRAM``: the module, as a name or a file name, to be found on ``sys.path``.
    :param model_dir: directory given to ``model_fn``.
    :param default_accept: content type when the client names none (``SAGEMAKER_DEFAULT_INVOCATIONS_ACCEPT``).
    :raises Exception: whatever the user's module or ``model_fn`` raises.
    """

    def __init__(self, program: str, model_dir: str, default_accept: str = JSON) -> None:
        self._context = Context(model_dir)
        self._default_accept = default_accept
        name = program.removesuffix(".py")
        module = importlib.import_module(name) if importlib.util.find_spec(name) else None
        found: dict[str, Callable[..., Any] | None] = {
            name: getattr(module, name, None)
            for name in [
                "model_fn",
                "input_fn",
                "predict_fn",
                "output_fn",
                "transform_fn",
                "pre_model_fn",
                "model_warmup_fn",
            ]
        }
        if found["transform_fn"] and (found["input_fn"] or found["predict_fn"] or found["output_fn"]):
            raise ValueError(
                "Cannot use transform_fn implementation in conjunction with "
                "input_fn, predict_fn, and/or output_fn implementation"
            )
        self._input = found["input_fn"] or decode
        self._predict = found["predict_fn"] or missing("predict_fn", program)
        self._output = found["output_fn"] or default_output
        self._transform = found["transform_fn"] or self._default_transform
        if found["pre_model_fn"]:
            self._call(found["pre_model_fn"], model_dir)
        self._model = self._call(found["model_fn"] or missing("model_fn", program), model_dir)
        if found["model_warmup_fn"]:
            self._call(found["model_warmup_fn"], model_dir, self._model)

    def answer(self, request: Request) -> Response:
        """Answer one invocation; an exception becomes the response that sagemaker-inference makes of it."""
        self._context.request_processor = [RequestProcessor(request.headers)]
        try:
            return self._response(self._run(request))
        except ReplyError as error:
            text = f"The handlers' answer cannot be sent: {error}"
            _print(f"{text}\n")
            return Response(500, "text/plain", text.encode(errors="backslashreplace"))
        except Exception as error:  # the user's code may raise anything
            trace = traceback.format_exc()
            _print(trace)
            status, message = _failure(error)
            return Response(status, "text/plain", f"{message}\n{trace}".encode(errors="backslashreplace"))

    def _run(self, request: Request) -> Any:
        headers = {name.lower(): value for name, value in request.headers.items()}
        content_type, accept = headers.get("content-type"), headers.get("accept")
        if not accept or accept == "*/*":
            accept = self._default_accept
        data = request.body.decode() if content_type in (JSON, CSV) else request.body
        result = self._call(self._transform, self._model, data, content_type, accept)
        body, answered = result[:2] if isinstance(result, tuple) else (result, accept)
        self._context.set_response_content_type(0, answered)
        return body

    def _response(self, body: Any) -> Response:
        """The response of ``body`` and of what the handlers set in the context.

        :raises ReplyError: one of them cannot be sent.
        """
        status = self._context.get_response_status(0)[0]
        if not isinstance(body, str | bytes | bytearray):
            try:
                body = json.dumps(body, indent=2)
            except (TypeError, ValueError, RecursionError):
                _print(traceback.format_exc())
                status, body = 503, "Unsupported model output data type."
        try:
            raw = body.encode() if isinstance(body, str) else bytes(body)
        except UnicodeEncodeError as error:
            raise ReplyError(f"the body is no text that UTF-8 can encode ({error})") from error
        headers = {str(name).lower(): value for name, value in self._context.get_response_headers(0).items()}
        content_type = _header("content type", headers.get("content-type")) or "text/plain"
        attributes = _header(f"header {CUSTOM_ATTRIBUTES}", headers.get(CUSTOM_ATTRIBUTES.lower()))
        return Response(_status(status), content_type, raw, attributes)

    def _default_transform(self, model: Any, data: Any, content_type: str | None, accept: str) -> Any:
        value = self._call(self._input, data, content_type)
        return self._call(self._output, self._call(self._predict, value, model), accept)

    def _call(self, function: Callable[..., Any], *arguments: Any) -> Any:
        """Call a handler, with the context if it takes one argument more."""
        count = len(signature(function).parameters)
        if count == len(arguments):
            return function(*arguments)
        if count == len(arguments) + 1:
            return function(*arguments, self._context)
        name = getattr(function, "__name__", repr(function))
        raise TypeError(f"{name} takes {count} arguments but {len(arguments)} were given.")


def _failure(error: Exception) -> tuple[int, str]:
    """Status and text of what a handler raised; an error for the client has its own (sagemaker_inference.errors)."""
    try:
        status = getattr(error, "status_code", None)
        if isinstance(status, int) and 200 <= status <= 599 and hasattr(error, "phrase"):
            return status, str(getattr(error, "message", None))
        return 500, str(error) or "Invalid Request"
    except Exception as broken:  # its __str__ is the user's too
        return 500, f"{type(error).__name__}, whose text cannot be had: {type(broken).__name__}"


def _status(value: Any) -> int:
    if not isinstance(value, int) or not 200 <= value <= 599:
        raise ReplyError(f"the status is {_shown(value)}, not a number from 200 to 599")
    return int(value)


def _header(what: str, value: Any) -> str | None:
    if value is None:
        return None
    if not isinstance(value, str):
        raise ReplyError(f"the {what} is {_shown(value)} ({type(value).__name__}), not a string")
    if found := _NOT_IN_HEADERS.search(value):
        raise ReplyError(f"the {what} is {_shown(value)}; {found[0]!a} cannot stand in an HTTP header")
    if len(value) > HEADER_LIMIT:
        raise ReplyError(f"the {what} has {len(value)} characters; {HEADER_LIMIT} are allowed: {_shown(value)}")
    return str(value)


def _shown(value: Any) -> str:
    try:
        text = ascii(value)
    except Exception as error:  # a __repr__ of the user's
        return f"an object whose repr raises {type(error).__name__}"
    return text if len(text) <= 100 else f"{text[:100]}..."


def _print(text: str) -> None:
    """Print what may hold characters that the standard output cannot encode."""
    encoding = getattr(sys.stdout, "encoding", None) or "utf-8"
    print(text.encode(encoding, "backslashreplace").decode(encoding), end="")


def missing(name: str, program: str) -> Callable[..., Any]:
    """Stands in for a function that has no default."""

    def refuse() -> Any:
        # The class that sagemaker-inference raises here: it is the user's module that is not complete.
        raise NotImplementedError(
            f"Please provide a {name} implementation: the module of {program!r} (SAGEMAKER_PROGRAM) has none, "
            "or there is no such module in model/code. See https://sagemaker.readthedocs.io/en/stable/"
        )

    if name == "model_fn":
        return lambda model_dir: refuse()
    return lambda data, model: refuse()


def decode(data: Any, content_type: str | None) -> Any:
    """The default ``input_fn``: a NumPy array (or sparse matrix) from JSON, CSV, NPY or NPZ.

    :raises UnsupportedFormatError: another content type.
    """
    if content_type not in (JSON, CSV, NPY, NPZ):
        raise UnsupportedFormatError(content_type)
    if content_type == NPZ:
        return importlib.import_module("scipy.sparse").load_npz(io.BytesIO(data))
    numpy = importlib.import_module("numpy")
    if content_type == JSON:
        return numpy.array(json.loads(data))
    if content_type == CSV:
        return numpy.genfromtxt(io.StringIO(data), dtype=None, delimiter=",")
    return numpy.load(io.BytesIO(data), allow_pickle=True)


def default_output(prediction: Any, accept: str) -> tuple[Any, str]:
    """The default ``output_fn``: JSON, CSV or NPY, the first that the client accepts.

    :raises UnsupportedFormatError: it accepts none of them.
    """
    encoders = {JSON: _to_json, CSV: _to_csv, NPY: _to_npy}
    for content_type in accept.replace(" ", "").split(","):
        if content_type in encoders:
            return encoders[content_type](prediction), content_type
    raise UnsupportedFormatError(accept)


def _to_json(value: Any) -> str:
    def plain(item: Any) -> Any:
        if hasattr(item, "tolist"):
            return item.tolist()
        return json.JSONEncoder().default(item)

    return json.dumps(value, default=plain)


def _to_csv(value: Any) -> str:
    text = io.StringIO()
    importlib.import_module("numpy").savetxt(text, value, delimiter=",", fmt="%s")
    return text.getvalue()


def _to_npy(value: Any) -> bytes:
    buffer = io.BytesIO()
    importlib.import_module("numpy").save(buffer, value)
    return buffer.getvalue()
