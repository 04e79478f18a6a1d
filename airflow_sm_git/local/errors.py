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
_S3 = "Amazon S3 API reference, Error responses"
_S3_COND = "Amazon S3 User Guide, Conditional requests"
_LOGS = "CloudWatch Logs API reference, errors of the action; text as moto 5.2 and AWS answer it"
_OURS = "the local server's own limit, not AWS behaviour"

CATALOGUE: tuple[Entry, ...] = (
    # Signatures. Query services, JSON services and S3 name the same refusals differently.
    Entry("s3.no_auth", "s3", "AccessDenied", 403, "Access Denied", _S3),
    Entry(
        "s3.bad_key",
        "s3",
        "InvalidAccessKeyId",
        403,
        "The AWS Access Key Id you provided does not exist in our records.",
        _S3,
    ),
    Entry(
        "s3.bad_signature",
        "s3",
        "SignatureDoesNotMatch",
        403,
        "The request signature we calculated does not match the signature you provided. "
        "Check your key and signing method.",
        _S3,
    ),
    Entry(
        "s3.skewed",
        "s3",
        "RequestTimeTooSkewed",
        403,
        "The difference between the request time and the current time is too large.",
        _S3,
    ),
    Entry("s3.expired", "s3", "AccessDenied", 403, "Request has expired", "Amazon S3 API reference, query-string auth"),
    Entry("s3.unsigned_headers", "s3", "AccessDenied", 403, "There were headers present in the request which were not signed", _S3),
    Entry(
        "s3.malformed_auth",
        "s3",
        "AuthorizationHeaderMalformed",
        400,
        "The authorization header is malformed; {reason}",
        _S3,
    ),
    Entry("query.no_auth", "sts, iam", "MissingAuthenticationToken", 403, "Request is missing Authentication Token", _COMMON),
    Entry(
        "query.bad_key",
        "sts, iam",
        "InvalidClientTokenId",
        403,
        "The security token included in the request is invalid.",
        _COMMON,
    ),
    Entry(
        "query.bad_signature",
        "sts, iam",
        "SignatureDoesNotMatch",
        403,
        "The request signature we calculated does not match the signature you provided. Check your AWS Secret "
        "Access Key and signing method. Consult the service documentation for details.",
        _SIGV4,
    ),
    Entry("query.skewed", "sts, iam", "SignatureDoesNotMatch", 403, "{reason}", _SIGV4),
    Entry("query.malformed_auth", "sts, iam", "IncompleteSignature", 403, "{reason}", _COMMON),
    Entry("json.no_auth", "sagemaker, logs", "MissingAuthenticationTokenException", 403, "Missing Authentication Token", _COMMON),
    Entry(
        "json.bad_key",
        "sagemaker, logs",
        "UnrecognizedClientException",
        403,
        "The security token included in the request is invalid.",
        _COMMON,
    ),
    Entry(
        "json.bad_signature",
        "sagemaker, logs",
        "InvalidSignatureException",
        403,
        "The request signature we calculated does not match the signature you provided. Check your AWS Secret "
        "Access Key and signing method. Consult the service documentation for details.",
        _SIGV4,
    ),
    Entry("json.skewed", "sagemaker, logs", "InvalidSignatureException", 403, "{reason}", _SIGV4),
    Entry("json.malformed_auth", "sagemaker, logs", "IncompleteSignatureException", 403, "{reason}", _COMMON),
    # Protocol.
    Entry("json.unknown_action", "sagemaker, logs", "UnknownOperationException", 400, "", "Smithy, AWS JSON 1.1 protocol"),
    Entry(
        "json.not_json",
        "sagemaker, logs",
        "SerializationException",
        400,
        "The request body is not a JSON object.",
        "Smithy, AWS JSON 1.1 protocol",
    ),
    Entry(
        "query.unknown_action",
        "sts, iam",
        "InvalidAction",
        400,
        "Could not find operation {action} for version {version}",
        _COMMON,
    ),
    Entry(
        "any.unknown_service",
        "any",
        "UnknownServiceException",
        404,
        "This server speaks s3, sts, iam, logs and sagemaker, not {service}.",
        _OURS,
    ),
    Entry("any.internal", "any", "InternalFailure", 500, "{reason}", _COMMON),
    Entry("any.too_large", "any", "RequestEntityTooLargeException", 413, "The request body is larger than {limit} bytes.", _OURS),
    # S3.
    Entry("s3.not_implemented", "s3", "NotImplemented", 501, "This server does not implement {what}.", _S3),
    Entry("s3.no_bucket", "s3", "NoSuchBucket", 404, "The specified bucket does not exist", _S3),
    Entry("s3.no_key", "s3", "NoSuchKey", 404, "The specified key does not exist.", _S3),
    Entry(
        "s3.no_upload",
        "s3",
        "NoSuchUpload",
        404,
        "The specified upload does not exist. The upload ID may be invalid, or the upload may have been aborted or completed.",
        _S3,
    ),
    Entry(
        "s3.bucket_owned",
        "s3",
        "BucketAlreadyOwnedByYou",
        409,
        "Your previous request to create the named bucket succeeded and you already own it.",
        _S3,
    ),
    Entry("s3.bucket_name", "s3", "InvalidBucketName", 400, "The specified bucket is not valid.", _S3),
    Entry("s3.bucket_not_empty", "s3", "BucketNotEmpty", 409, "The bucket you tried to delete is not empty", _S3),
    Entry("s3.location", "s3", "IllegalLocationConstraintException", 400, "The {region} location constraint is incompatible for the region specific endpoint this request was sent to.", _S3),
    Entry("s3.denied", "s3", "AccessDenied", 403, "Access Denied", _S3),
    Entry("s3.precondition", "s3", "PreconditionFailed", 412, "At least one of the pre-conditions you specified did not hold", _S3_COND),
    Entry("s3.not_modified", "s3", "NotModified", 304, "Not Modified", _S3_COND),
    Entry("s3.range", "s3", "InvalidRange", 416, "The requested range is not satisfiable", _S3),
    Entry("s3.bad_digest", "s3", "BadDigest", 400, "The {algorithm} you specified did not match the calculated checksum.", _S3),
    Entry("s3.invalid_digest", "s3", "InvalidDigest", 400, "The Content-MD5 you specified was invalid.", _S3),
    Entry(
        "s3.sha256_mismatch",
        "s3",
        "XAmzContentSHA256Mismatch",
        400,
        "The provided 'x-amz-content-sha256' header does not match what was computed.",
        _S3,
    ),
    Entry("s3.incomplete", "s3", "IncompleteBody", 400, "The request body terminated unexpectedly", _S3),
    Entry("s3.key_too_long", "s3", "KeyTooLongError", 400, "Your key is too long", _S3),
    Entry("s3.invalid_argument", "s3", "InvalidArgument", 400, "{reason}", _S3),
    Entry("s3.invalid_request", "s3", "InvalidRequest", 400, "{reason}", _S3),
    Entry("s3.malformed_xml", "s3", "MalformedXML", 400, "The XML you provided was not well-formed or did not validate against our published schema", _S3),
    Entry("s3.invalid_part", "s3", "InvalidPart", 400, "One or more of the specified parts could not be found.  The part may not have been uploaded, or the specified entity tag may not match the part's entity tag.", _S3),
    Entry("s3.part_order", "s3", "InvalidPartOrder", 400, "The list of parts was not in ascending order. The parts list must be specified in order by part number.", _S3),
    Entry("s3.part_small", "s3", "EntityTooSmall", 400, "Your proposed upload is smaller than the minimum allowed size", _S3),
    Entry("s3.method", "s3", "MethodNotAllowed", 405, "The specified method is not allowed against this resource.", _S3),
    # IAM and CloudWatch Logs.
    Entry("iam.no_role", "iam", "NoSuchEntity", 404, "The role with name {name} cannot be found.", "IAM API reference, GetRole"),
    Entry("iam.bad_role", "iam", "ValidationError", 400, "The specified value for roleName is invalid. It must contain only alphanumeric characters and/or the following: +=,.@_-", "IAM API reference, GetRole"),
    Entry("logs.no_group", "logs", "ResourceNotFoundException", 400, "The specified log group does not exist.", _LOGS),
    Entry("logs.no_stream", "logs", "ResourceNotFoundException", 400, "The specified log stream does not exist.", _LOGS),
    Entry("logs.group_exists", "logs", "ResourceAlreadyExistsException", 400, "The specified log group already exists", _LOGS),
    Entry("logs.stream_exists", "logs", "ResourceAlreadyExistsException", 400, "The specified log stream already exists", _LOGS),
    Entry("logs.invalid", "logs", "InvalidParameterException", 400, "{reason}", _LOGS),
)

_BY_KEY = {entry.key: entry for entry in CATALOGUE}


def api_error(key: str, extra: Mapping[str, object] | None = None, **fields: object) -> ApiError:
    """The error of the row ``key`` of :data:`CATALOGUE`.

    :param extra: further members of the error's body.
    :param fields: what the row's message needs.
    :raises KeyError: there is no such row, or a field is missing.
    """
    return _BY_KEY[key].error(extra, **fields)
