"""The one exception tree.

::

    SmGitError
    ├── BadParameter (ValueError)     a parameter's value cannot work; says which, what it was, what to do
    │   └── NotSupported              it could work, but this version does not do it yet
    ├── GitError
    │   ├── RemoteError               the remote cannot be reached, or refuses us
    │   │   └── AuthenticationFailed
    │   ├── RefNotFound               no such branch, tag or commit
    │   ├── CommitGone                a pinned commit is no longer on the remote
    │   ├── PathNotFound              the commit lacks a source_dir or entry point
    │   └── UnsafeTree                the tree holds what must not be packaged (links out of it, submodules, …)
    ├── AwsError                      a call that AWS refused; carries its code
    │   ├── AccessDenied
    │   ├── Throttled                 worth another try
    │   ├── ServiceFault              worth another try
    │   ├── NotFound
    │   ├── NameInUse
    │   └── LimitExceeded
    ├── TrainingError
    │   ├── TrainingFailed            its script failed, or SageMaker did
    │   │   ├── OutOfCapacity         worth another try, later
    │   │   ├── SpotInterrupted       worth another try
    │   │   ├── RoleDenied            the execution role may not do what the job needs
    │   │   ├── ImageMissing
    │   │   └── DataMissing
    │   ├── TrainingStopped           somebody else stopped it
    │   └── TrainingTimedOut
    ├── DeployError
    │   ├── DeployFailed
    │   │   ├── DeployedOtherwise     it serves, with other weights or fewer instances than asked for
    │   │   └── DeployOutOfCapacity   worth another try, later
    │   ├── DeployRolledBack          the old configuration serves on
    │   ├── DeployOvertaken           somebody else changed or deleted the endpoint meanwhile
    │   └── DeployTimedOut
    ├── PredictionError               the endpoint answered with an error, or not at all
    └── TeardownError                 something that this run made is still there

Every error says what failed, on which resource, and what to do about it. None carries a secret: what goes in
is redacted by the caller (`core.source.redact`).
"""

from __future__ import annotations


class SmGitError(Exception):
    """Base of all errors of this package.

    :param what: one sentence: what failed, on which resource, for which reason.
    :param remedy: one sentence: what the reader can do about it. May be empty.

    ``retryable`` tells whether Airflow's retries may help; without it a task fails at once. ``retry_after`` says how
    many seconds to wait before that, where sooner is no use.
    """

    retryable = False
    retry_after: float | None = None

    def __init__(self, what: str, remedy: str = "") -> None:
        super().__init__(what, remedy)
        self.what = what
        self.remedy = remedy

    def __str__(self) -> str:
        between = "\n" if "\n" in self.what else " "  # a remedy must not look like the last of a log's lines
        return f"{self.what}{between}{self.remedy}".strip()


class BadParameter(SmGitError, ValueError):
    """A parameter's value cannot work.

    :param parameter: the parameter's name as the user wrote it.
    :param value: its value; never a secret.
    :param problem: what is wrong with it.
    :param remedy: what to write instead.
    """

    def __init__(self, parameter: str, value: object, problem: str, remedy: str = "") -> None:
        stop = "" if problem.endswith((".", "!", "?", "…")) else "."
        super().__init__(f"{parameter}={value!r}: {problem}{stop}", remedy)
        self.args = (parameter, value, problem, remedy)  # what pickle hands back to __init__
        self.parameter = parameter
        self.value = value
        self.problem = problem


class NotSupported(BadParameter):
    """The value could work, but this version does not do it yet."""


class GitError(SmGitError):
    """Something between a remote repository and a package."""


class RemoteError(GitError):
    """The remote cannot be reached, or broke off."""

    retryable = True


class AuthenticationFailed(RemoteError):
    """The remote wants credentials, or other ones."""

    retryable = False


class RefNotFound(GitError):
    """The remote has no such branch, tag or commit."""


class CommitGone(GitError):
    """A commit that was pinned is no longer on the remote."""


class PathNotFound(GitError):
    """The commit has no such directory or file."""


class UnsafeTree(GitError):
    """The tree holds something that must not be packaged."""


class AwsError(SmGitError):
    """A call that AWS refused.

    :param code: the error code AWS gave, such as ``ValidationException``.
    :param operation: the API action, such as ``CreateTrainingJob``.
    """

    def __init__(self, what: str, remedy: str = "", *, code: str = "", operation: str = "") -> None:
        super().__init__(what, remedy)
        self.code = code
        self.operation = operation


class AccessDenied(AwsError):
    """The caller's credentials do not allow the action."""


class Throttled(AwsError):
    """Too many calls."""

    retryable = True


class ServiceFault(AwsError):
    """AWS failed (5xx), or the connection did."""

    retryable = True


class NotFound(AwsError):
    """The named resource does not exist."""


class NameInUse(AwsError):
    """A resource of that name exists already, or is busy."""


class LimitExceeded(AwsError):
    """A quota of the account is used up.

    :param free_later: whether others use it, so that it may be free later.
    """

    retry_after = 600.0

    def __init__(
        self, what: str, remedy: str = "", *, code: str = "", operation: str = "", free_later: bool = False
    ) -> None:
        super().__init__(what, remedy, code=code, operation=operation)
        self.retryable = free_later


class TrainingError(SmGitError):
    """A training job did not give a model."""


class TrainingFailed(TrainingError):
    """The job ended as Failed."""

    retryable = True


class OutOfCapacity(TrainingFailed):
    """AWS had no instance of the type."""

    retry_after = 600.0


class SpotInterrupted(TrainingFailed):
    """Spot capacity was taken away, and not given back in time."""


class RoleDenied(TrainingFailed):
    """The execution role cannot be assumed, or may not do what the job needs."""

    retryable = False


class ImageMissing(TrainingFailed):
    """The image is not there, or cannot be pulled."""

    retryable = False


class DataMissing(TrainingFailed):
    """What a channel names is not there."""

    retryable = False


class TrainingStopped(TrainingError):
    """The job was stopped, not by us."""


class TrainingTimedOut(TrainingError):
    """The job did not end in the time it was given."""

    retryable = True


class DeployError(SmGitError):
    """An endpoint does not serve what was asked for."""


class DeployFailed(DeployError):
    """The endpoint could not be created or updated."""

    retryable = True


class DeployedOtherwise(DeployFailed):
    """It serves the configuration, but with other weights or fewer instances; trying again changes nothing of that."""

    retryable = False


class DeployOutOfCapacity(DeployFailed):
    """AWS had no instance of the type; if there was an old configuration, it serves on."""

    retry_after = 600.0


class DeployRolledBack(DeployError):
    """The update failed and the old configuration serves on."""


class DeployOvertaken(DeployError):
    """Somebody else has updated or deleted the endpoint meanwhile; trying again would undo what they did."""


class DeployTimedOut(DeployError):
    """The endpoint was not in service in the time it was given."""

    retryable = True


class PredictionError(SmGitError):
    """The endpoint gave an error, or no answer."""

    retryable = True


class TeardownError(SmGitError):
    """Something that this run made is still there."""

    retryable = True
