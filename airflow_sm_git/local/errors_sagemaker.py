"""What SageMaker answers when it refuses, and what its statuses become: the table that the control code raises from.

Rows marked :data:`OURS` carry a code that AWS documents for the situation and a text of our own, because AWS's text
for it was not found in public material.
"""

from __future__ import annotations

from dataclasses import dataclass

from airflow_sm_git.local.errors import ApiError, Entry

OURS = "code from the SageMaker API reference; wording ours"
_K8S = "aws/amazon-sagemaker-operator-for-k8s, sageMakerClientWrapper (codes and prefixes it matches)"
_SDK = "SageMaker Python SDK 2.257, session.py (the texts it matches)"
_REPORTED = "AWS's answer as quoted in public issue reports"
_TERRAFORM = "hashicorp/terraform-provider-aws, service/sagemaker (the texts it matches)"
_RUNTIME = "SageMaker Runtime API reference, InvokeEndpoint, Errors"
_CORAL = "AWS's answer to malformed members, common to its JSON services, as quoted in public issue reports"
_UNSUPPORTED = "the local server's own limit, not AWS behaviour"

VALIDATION = "ValidationException"

SAGEMAKER: tuple[Entry, ...] = (
    Entry("invalid", "sagemaker", VALIDATION, 400, "{detail}", _CORAL),
    Entry("serialization", "sagemaker", "SerializationException", 400, "{detail}", _CORAL),
    Entry(
        "unsupported",
        "sagemaker",
        VALIDATION,
        400,
        "The local SageMaker does not support {what}. On AWS this request may be valid.",
        _UNSUPPORTED,
    ),
    Entry(
        "training_job.in_use",
        "sagemaker",
        "ResourceInUse",
        400,
        "Job name must be unique within an AWS account and region, and a job with this name already exists ({arn})",
        _REPORTED,
    ),
    Entry("training_job.missing", "sagemaker", VALIDATION, 400, "Requested resource not found.", _K8S),
    Entry(
        "training_job.not_running",
        "sagemaker",
        VALIDATION,
        400,
        "The request was rejected because the training job is in status {status}.",
        "AWS's text as matched by grand-challenge.org and by SageMaker-based schedulers",
    ),
    Entry(
        "training_job.no_data",
        "sagemaker",
        VALIDATION,
        400,
        'No S3 objects found under S3 URL "{uri}" given in input data source. Please ensure that the bucket exists in '
        'the selected region ({region}), that objects exist under that S3 prefix, and that the role "{role}" has '
        '"s3:ListBucket" permissions on bucket "{bucket}".',
        _TERRAFORM + "; " + _REPORTED + " (at CreateTrainingJob, not while downloading)",
    ),
    Entry(
        "training_job.incomplete",
        "sagemaker",
        VALIDATION,
        400,
        "1 validation error detected: Value null at '{member}' failed to satisfy constraint: Member must not be null",
        _CORAL + "; required of every job but a serverless one",
    ),
    Entry(
        "training_job.wait_without_spot",
        "sagemaker",
        VALIDATION,
        400,
        "MaxWaitTimeInSeconds can only be specified when EnableManagedSpotTraining is set to true.",
        "SageMaker API reference, StoppingCondition; wording ours",
    ),
    Entry(
        "training_job.spot_without_wait",
        "sagemaker",
        VALIDATION,
        400,
        "MaxWaitTimeInSeconds must be specified, and must be equal to or greater than MaxRuntimeInSeconds, when "
        "EnableManagedSpotTraining is set to true.",
        "SageMaker API reference, StoppingCondition (MaxWaitTimeInSeconds); wording ours",
    ),
    Entry(
        "training_job.algorithm",
        "sagemaker",
        VALIDATION,
        400,
        "You must specify either TrainingImage or AlgorithmName in AlgorithmSpecification, and not both.",
        "SageMaker API reference, AlgorithmSpecification; wording ours",
    ),
    Entry(
        "training_job.duplicate_channel",
        "sagemaker",
        VALIDATION,
        400,
        "The channel name {channel} appears more than once in InputDataConfig.",
        OURS,
    ),
    Entry("role.cross_account", "sagemaker", VALIDATION, 400, "Cross-account pass role is not allowed.", _REPORTED),
    Entry("model.exists", "sagemaker", VALIDATION, 400, 'Cannot create already existing model "{arn}".', _SDK),
    Entry("model.missing", "sagemaker", VALIDATION, 400, 'Could not find model "{arn}".', _K8S),
    Entry("model.no_data", "sagemaker", VALIDATION, 400, "Could not find model data at {uri}.", _REPORTED),
    Entry(
        "model.containers",
        "sagemaker",
        VALIDATION,
        400,
        "You must provide either a primary container or a list of containers, and not both.",
        "SageMaker API reference, CreateModel; wording ours",
    ),
    Entry(
        "model.image",
        "sagemaker",
        VALIDATION,
        400,
        "Specify one of either Image and Model Data URL or ModelPackageName in container definition.",
        _REPORTED,
    ),
    Entry(
        "endpoint_config.no_capacity",
        "sagemaker",
        VALIDATION,
        400,
        "Production variant {variant} must have either InstanceType with InitialInstanceCount, or ServerlessConfig.",
        "SageMaker API reference, ProductionVariant; wording ours",
    ),
    Entry(
        "endpoint_config.exists",
        "sagemaker",
        VALIDATION,
        400,
        'Cannot create already existing endpoint configuration "{arn}".',
        _REPORTED,
    ),
    Entry(
        "endpoint_config.missing", "sagemaker", VALIDATION, 400, 'Could not find endpoint configuration "{arn}".', _K8S
    ),
    Entry(
        "endpoint_config.duplicate_variant",
        "sagemaker",
        VALIDATION,
        400,
        "Production variant names must be unique: {variant} appears more than once.",
        OURS,
    ),
    Entry(
        "endpoint.exists",
        "sagemaker",
        VALIDATION,
        400,
        'Cannot create already existing endpoint "{arn}".',
        _REPORTED + "; Amazon provider, SageMakerEndpointOperator",
    ),
    Entry("endpoint.missing", "sagemaker", VALIDATION, 400, 'Could not find endpoint "{arn}".', _K8S),
    Entry("endpoint.in_progress", "sagemaker", VALIDATION, 400, 'Cannot update in-progress endpoint "{arn}".', _K8S),
    Entry(
        "endpoint.failed",
        "sagemaker",
        VALIDATION,
        400,
        'Cannot update endpoint "{arn}" in status {status}.',
        "SageMaker API reference, DescribeEndpoint (Failed: only DeleteEndpoint can be performed); wording ours",
    ),
    Entry(
        "endpoint.no_variant",
        "sagemaker",
        VALIDATION,
        400,
        'Could not find variant "{variant}" of endpoint "{arn}".',
        OURS,
    ),
    Entry("tags.missing", "sagemaker", VALIDATION, 400, 'Could not find resource "{arn}".', OURS),
    Entry(
        "tags.limit", "sagemaker", VALIDATION, 400, "A resource can have at most 50 tags; {count} were requested.", OURS
    ),
    Entry("tags.duplicate", "sagemaker", VALIDATION, 400, "Duplicate tag key: {tag}.", OURS),
    Entry(
        "tags.reserved",
        "sagemaker",
        VALIDATION,
        400,
        "aws: prefixed tag key names are not allowed for external use.",
        "AWS Tagging best practices; the text of other AWS services",
    ),
    Entry("list.bad_token", "sagemaker", VALIDATION, 400, "Invalid NextToken.", OURS),
    Entry("invoke.invalid", "sagemaker-runtime", "ValidationError", 400, "{detail}", _RUNTIME + "; text: " + _CORAL),
    Entry(
        "invoke.missing",
        "sagemaker-runtime",
        "ValidationError",
        400,
        "Endpoint {endpoint} of account {account} not found.",
        _REPORTED + " (also for an endpoint that is still Creating)",
    ),
    Entry(
        "invoke.no_variant",
        "sagemaker-runtime",
        "ValidationError",
        400,
        "Variant {variant} not found for endpoint {endpoint} of account {account}.",
        _RUNTIME + "; wording ours",
    ),
    Entry(
        "invoke.unsupported",
        "sagemaker-runtime",
        "ValidationError",
        400,
        "The local SageMaker does not support {what}. On AWS this request may be valid.",
        _UNSUPPORTED,
    ),
    Entry(
        "invoke.model_error",
        "sagemaker-runtime",
        "ModelError",
        424,
        'Received {side} error ({status}) from primary with message "{original}". See '
        "https://{region}.console.aws.amazon.com/cloudwatch/home?region={region}"
        "#logEventViewer:group=/aws/sagemaker/Endpoints/{endpoint} in account {account} for more information.",
        _RUNTIME + "; text: " + _REPORTED,
    ),
    Entry(
        "invoke.timeout",
        "sagemaker-runtime",
        "ModelError",
        424,
        'Received server error (0) from primary with message "Your invocation timed out while waiting for a response '
        "from container primary. Review the latency metrics for each container in Amazon CloudWatch, resolve the "
        'issue, and try again.".',
        _REPORTED,
    ),
    Entry(
        "invoke.unreachable",
        "sagemaker-runtime",
        "ModelError",
        424,
        'Received server error (0) from primary with message "Amazon SageMaker could not get a response from the '
        '{endpoint} endpoint.".',
        _REPORTED,
    ),
)


@dataclass(frozen=True)
class Transition:
    """One step in the life of a resource.

    :param kind: what moves.
    :param before: statuses it leaves.
    :param after: status it has next.
    :param because: what makes it move.
    :param source: where that is taken from.
    """

    kind: str
    before: tuple[str, ...]
    after: str
    because: str
    source: str


_DESCRIBE_JOB = "SageMaker API reference, DescribeTrainingJob (TrainingJobStatus, SecondaryStatus)"
_STOP_JOB = "SageMaker API reference, StopTrainingJob"
_DESCRIBE_ENDPOINT = "SageMaker API reference, DescribeEndpoint (EndpointStatus)"
_RESTART = "no counterpart on AWS; InternalServerError is AWS's form for its own faults"

TRANSITIONS: tuple[Transition, ...] = (
    Transition("TrainingJob", (), "InProgress/Starting", "CreateTrainingJob", _DESCRIBE_JOB),
    Transition("TrainingJob", ("Starting",), "InProgress/Downloading", "input data is fetched", _DESCRIBE_JOB),
    Transition("TrainingJob", ("Downloading",), "InProgress/Training", "the script starts", _DESCRIBE_JOB),
    Transition("TrainingJob", ("Training",), "InProgress/Uploading", "the script ended", _DESCRIBE_JOB),
    Transition("TrainingJob", ("Uploading",), "Completed/Completed", "the artefact is in S3", _DESCRIBE_JOB),
    Transition("TrainingJob", ("InProgress",), "Failed/Failed", "the script or a transfer failed", _DESCRIBE_JOB),
    Transition("TrainingJob", ("InProgress",), "Stopping/Stopping", "StopTrainingJob", _STOP_JOB),
    Transition("TrainingJob", ("Stopping",), "Stopped/Stopped", "the script ended or was killed", _STOP_JOB),
    Transition(
        "TrainingJob", ("InProgress",), "Stopped/MaxRuntimeExceeded", "MaxRuntimeInSeconds passed", _DESCRIBE_JOB
    ),
    Transition("TrainingJob", ("InProgress",), "Failed/Failed", "the local server restarted", _RESTART),
    Transition("Endpoint", (), "Creating", "CreateEndpoint", _DESCRIBE_ENDPOINT),
    Transition("Endpoint", ("Creating",), "InService", "every container answered its ping", _DESCRIBE_ENDPOINT),
    Transition("Endpoint", ("Creating",), "Failed", "a container did not answer its ping", _DESCRIBE_ENDPOINT),
    Transition("Endpoint", ("InService",), "Updating", "UpdateEndpoint or new weights", _DESCRIBE_ENDPOINT),
    Transition("Endpoint", ("Updating",), "InService", "the new containers answered", _DESCRIBE_ENDPOINT),
    Transition(
        "Endpoint",
        ("Updating",),
        "InService with FailureReason",
        "a new container did not answer: the old config serves on",
        _DESCRIBE_ENDPOINT + "; SageMaker Developer Guide, Deployment guardrails, Auto-Rollback",
    ),
    Transition("Endpoint", ("InService", "Failed"), "Deleting", "DeleteEndpoint", _DESCRIBE_ENDPOINT),
)

_BY_KEY = {entry.key: entry for entry in SAGEMAKER}


def refuse(key: str, extra: dict[str, object] | None = None, **fields: object) -> ApiError:
    """The error of row ``key`` of :data:`SAGEMAKER`, filled with ``fields``; ``extra`` goes into its body.

    :raises KeyError: there is no such row, or a field that its message needs is missing.
    """
    return _BY_KEY[key].error(extra, **fields)
