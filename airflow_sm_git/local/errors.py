"""What the local services answer when they refuse: one error class, and the table it is filled from.

Each row of :data:`CATALOGUE` cites where its code and its text are taken from, so that the local services are
not right merely because our own client agrees with them. SageMaker's rows are in ``errors_sagemaker``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass
class ApiError(Exception):
    """A refusal, rendered by the application in the form that the service's protocol has.

    :param code: error code, as a client sees it in ``ClientError.response["Error"]["Code"]``.
    :param message: text for the reader.
    :param status: HTTP status.
    :param extra: further members of the error's body, for instance ``OriginalMessage`` of a ModelError.
    """

    code: str
    message: str
    status: int = 400
    extra: Mapping[str, object] = field(default_factory=dict)

    def __str__(self) -> str:
        return f"{self.code}: {self.message}"


@dataclass(frozen=True)
class Entry:
    """One row of a table of errors.

    :param key: name under which our code raises it; unique.
    :param service: who answers it (``s3``, ``sts``, ``iam``, ``logs``, ``sagemaker``, ``any``).
    :param code: error code.
    :param status: HTTP status.
    :param message: text with ``str.format`` fields.
    :param source: where code, status and text are taken from.
    """

    key: str
    service: str
    code: str
    status: int
    message: str
    source: str

    def error(self, extra: Mapping[str, object] | None = None, **fields: object) -> ApiError:
        """The error of this row, its message filled with ``fields``; ``extra`` goes into its body.

        :raises KeyError: a field that the message needs is missing.
        """
        return ApiError(self.code, self.message.format(**fields), self.status, extra or {})


_SIGV4 = "AWS General Reference, Troubleshoot AWS API request signing"
_COMMON = "Common errors page of the service's API reference"
_SMITHY = "Smithy, AWS JSON 1.1 protocol"
_S3 = "Amazon S3 API reference, Error responses"
_S3_COND = "Amazon S3 User Guide, Conditional requests"
_LOGS = "CloudWatch Logs API reference, errors of the action; text as moto 5.2 has it"
_IAM = "IAM API reference, GetRole"
_OURS = "the local server's own limit, not AWS behaviour"

_SIGNATURE = (
    "The request signature we calculated does not match the signature you provided. Check your AWS Secret Access Key "
    "and signing method. Consult the service documentation for details."
)
_S3_SIGNATURE = (
    "The request signature we calculated does not match the signature you provided. Check your key and signing method."
)
_OLD = "The authorization mechanism you have provided is not supported. Please use AWS4-HMAC-SHA256."
_UPLOAD = (
    "The specified upload does not exist. The upload ID may be invalid, or the upload may have been aborted or "
    "completed."
)
_PART = (
    "One or more of the specified parts could not be found.  The part may not have been uploaded, or the specified "
    "entity tag may not match the part's entity tag."
)
_ORDER = "The list of parts was not in ascending order. The parts list must be specified in order by part number."
_XML = "The XML you provided was not well-formed or did not validate against our published schema"
_LOCATION = (
    "The {region} location constraint is incompatible for the region specific endpoint this request was sent to."
)
_OWNED = "Your previous request to create the named bucket succeeded and you already own it."
_TOKEN = "The security token included in the request is invalid."  # noqa: S105 (a text, no secret)
_ROLE_NAME = (
    "The specified value for roleName is invalid. It must contain only alphanumeric characters and/or the following: "
    "+=,.@_-"
)


def _rows(service: str, *rows: tuple[str, str, int, str, str]) -> tuple[Entry, ...]:
    """Rows of key, code, status, message and source, all of one service."""
    return tuple(Entry(key, service, code, status, message, source) for key, code, status, message, source in rows)


CATALOGUE: tuple[Entry, ...] = (
    *_rows(
        "s3",
        ("s3.no_auth", "AccessDenied", 403, "Access Denied", _S3),
        (
            "s3.bad_key",
            "InvalidAccessKeyId",
            403,
            "The AWS Access Key Id you provided does not exist in our records.",
            _S3,
        ),
        ("s3.bad_signature", "SignatureDoesNotMatch", 403, _S3_SIGNATURE, _S3),
        (
            "s3.skewed",
            "RequestTimeTooSkewed",
            403,
            "The difference between the request time and the current time is too large.",
            _S3,
        ),
        ("s3.expired", "AccessDenied", 403, "Request has expired", "Amazon S3 API reference, query-string auth"),
        (
            "s3.unsigned_headers",
            "AccessDenied",
            403,
            "There were headers present in the request which were not signed",
            _S3,
        ),
        ("s3.old_signature", "InvalidRequest", 400, _OLD, _S3),
        (
            "s3.malformed_auth",
            "AuthorizationHeaderMalformed",
            400,
            "The authorization header is malformed; {reason}",
            _S3,
        ),
        ("s3.not_implemented", "NotImplemented", 501, "This server does not implement {what}.", _S3),
        ("s3.no_bucket", "NoSuchBucket", 404, "The specified bucket does not exist", _S3),
        ("s3.no_key", "NoSuchKey", 404, "The specified key does not exist.", _S3),
        ("s3.no_upload", "NoSuchUpload", 404, _UPLOAD, _S3),
        ("s3.bucket_owned", "BucketAlreadyOwnedByYou", 409, _OWNED, _S3),
        ("s3.bucket_name", "InvalidBucketName", 400, "The specified bucket is not valid.", _S3),
        ("s3.bucket_not_empty", "BucketNotEmpty", 409, "The bucket you tried to delete is not empty", _S3),
        ("s3.location", "IllegalLocationConstraintException", 400, _LOCATION, _S3),
        ("s3.denied", "AccessDenied", 403, "Access Denied", _S3),
        (
            "s3.precondition",
            "PreconditionFailed",
            412,
            "At least one of the pre-conditions you specified did not hold",
            _S3_COND,
        ),
        ("s3.not_modified", "NotModified", 304, "Not Modified", _S3_COND),
        ("s3.range", "InvalidRange", 416, "The requested range is not satisfiable", _S3),
        (
            "s3.bad_digest",
            "BadDigest",
            400,
            "The {algorithm} you specified did not match the calculated checksum.",
            _S3,
        ),
        ("s3.invalid_digest", "InvalidDigest", 400, "The Content-MD5 you specified was invalid.", _S3),
        (
            "s3.sha256_mismatch",
            "XAmzContentSHA256Mismatch",
            400,
            "The provided 'x-amz-content-sha256' header does not match what was computed.",
            _S3,
        ),
        ("s3.incomplete", "IncompleteBody", 400, "The request body terminated unexpectedly", _S3),
        ("s3.invalid_uri", "InvalidURI", 400, "Couldn't parse the specified URI.", _S3),
        ("s3.key_too_long", "KeyTooLongError", 400, "Your key is too long", _S3),
        ("s3.invalid_argument", "InvalidArgument", 400, "{reason}", _S3),
        ("s3.invalid_request", "InvalidRequest", 400, "{reason}", _S3),
        ("s3.malformed_xml", "MalformedXML", 400, _XML, _S3),
        ("s3.invalid_part", "InvalidPart", 400, _PART, _S3),
        ("s3.part_order", "InvalidPartOrder", 400, _ORDER, _S3),
        ("s3.part_small", "EntityTooSmall", 400, "Your proposed upload is smaller than the minimum allowed size", _S3),
        ("s3.method", "MethodNotAllowed", 405, "The specified method is not allowed against this resource.", _S3),
    ),
    *_rows(
        "sts, iam",
        ("query.no_auth", "MissingAuthenticationToken", 403, "Request is missing Authentication Token", _COMMON),
        ("query.bad_key", "InvalidClientTokenId", 403, _TOKEN, _COMMON),
        ("query.bad_signature", "SignatureDoesNotMatch", 403, _SIGNATURE, _SIGV4),
        ("query.skewed", "SignatureDoesNotMatch", 403, "{reason}", _SIGV4),
        ("query.malformed_auth", "IncompleteSignature", 403, "{reason}", _COMMON),
        (
            "query.unknown_action",
            "InvalidAction",
            400,
            "Could not find operation {action} for version {version}",
            _COMMON,
        ),
    ),
    *_rows(
        "sagemaker, logs",
        ("json.no_auth", "MissingAuthenticationTokenException", 403, "Missing Authentication Token", _COMMON),
        ("json.bad_key", "UnrecognizedClientException", 403, _TOKEN, _COMMON),
        ("json.bad_signature", "InvalidSignatureException", 403, _SIGNATURE, _SIGV4),
        ("json.skewed", "InvalidSignatureException", 403, "{reason}", _SIGV4),
        ("json.malformed_auth", "IncompleteSignatureException", 403, "{reason}", _COMMON),
        ("json.unknown_action", "UnknownOperationException", 400, "", _SMITHY),
        ("json.not_json", "SerializationException", 400, "The request body is not a JSON object.", _SMITHY),
    ),
    *_rows(
        "iam",
        ("iam.no_role", "NoSuchEntity", 404, "The role with name {name} cannot be found.", _IAM),
        ("iam.bad_role", "ValidationError", 400, _ROLE_NAME, _IAM),
    ),
    *_rows(
        "logs",
        ("logs.no_group", "ResourceNotFoundException", 400, "The specified log group does not exist.", _LOGS),
        ("logs.no_stream", "ResourceNotFoundException", 400, "The specified log stream does not exist.", _LOGS),
        ("logs.group_exists", "ResourceAlreadyExistsException", 400, "The specified log group already exists", _LOGS),
        ("logs.stream_exists", "ResourceAlreadyExistsException", 400, "The specified log stream already exists", _LOGS),
        ("logs.invalid", "InvalidParameterException", 400, "{reason}", _LOGS),
    ),
    *_rows(
        "any",
        (
            "any.unknown_service",
            "UnknownServiceException",
            404,
            "This server speaks s3, sts, iam, logs and sagemaker, not {service}.",
            _OURS,
        ),
        ("any.internal", "InternalFailure", 500, "{reason}", _COMMON),
        (
            "any.too_large",
            "RequestEntityTooLargeException",
            413,
            "The request body is larger than {limit} bytes.",
            _OURS,
        ),
    ),
)

_BY_KEY = {entry.key: entry for entry in CATALOGUE}


def api_error(key: str, extra: Mapping[str, object] | None = None, **fields: object) -> ApiError:
    """The error of the row ``key`` of :data:`CATALOGUE`.

    :param extra: further members of the error's body.
    :param fields: what the row's message needs.
    :raises KeyError: there is no such row, or a field is missing.
    """
    return _BY_KEY[key].error(extra, **fields)
