from __future__ import annotations

import copy
import pickle
import re

import pytest

from airflow_sm_git.core import errors
from airflow_sm_git.core.errors import AwsError, BadParameter, SmGitError

CLASSES = [v for v in vars(errors).values() if isinstance(v, type) and issubclass(v, Exception)]
RETRYABLE = {
    "RemoteError",
    "Throttled",
    "ServiceFault",
    "TrainingFailed",
    "OutOfCapacity",
    "SpotInterrupted",
    "TrainingTimedOut",
    "DeployFailed",
    "DeployOutOfCapacity",
    "DeployTimedOut",
    "PredictionError",
    "TeardownError",
}


def example(kind: type[SmGitError]) -> SmGitError:
    if issubclass(kind, BadParameter):
        return kind("ref", "brnach", "is no branch", "Write another.")
    if issubclass(kind, AwsError):
        return kind("It broke.", "Mend it.", code="Code", operation="CreateModel")
    return kind("It broke.", "Mend it.")


def drawn() -> dict[str, str]:
    """Each class in the docstring's tree, with its parent."""
    found, path = {}, [""] * 10
    for line in (errors.__doc__ or "").splitlines():
        match = re.match(r"    ((?:│   |    )*)(?:[├└]── )?([A-Z]\w+)(?: \(|\s|$)", line)
        if match and (match.group(2) == "SmGitError" or "──" in line):
            depth = line.index(match.group(2)) // 4 - 1
            path[depth] = match.group(2)
            found[match.group(2)] = path[depth - 1] if depth else ""
    return found


def test_the_tree_in_the_docstring_is_the_tree() -> None:
    real = {kind.__name__: kind.__bases__[0].__name__ if kind is not SmGitError else "" for kind in CLASSES}
    assert drawn() == real


@pytest.mark.parametrize("kind", CLASSES)
def test_an_error_survives_pickling_and_copying(kind: type[SmGitError]) -> None:
    error = example(kind)
    for again in (pickle.loads(pickle.dumps(error)), copy.copy(error)):  # noqa: S301  our own bytes
        assert type(again) is kind
        assert str(again) == str(error)
        assert vars(again) == vars(error)
        assert again.args == error.args


@pytest.mark.parametrize("kind", CLASSES)
def test_an_error_prints_what_failed_and_then_what_to_do(kind: type[SmGitError]) -> None:
    text = str(example(kind))
    if issubclass(kind, BadParameter):
        assert text == "ref='brnach': is no branch. Write another."
    else:
        assert text == "It broke. Mend it."


@pytest.mark.parametrize("kind", CLASSES)
def test_only_what_may_get_better_by_itself_is_retried(kind: type[SmGitError]) -> None:
    assert kind.retryable == (kind.__name__ in RETRYABLE)


def test_a_bad_parameter_is_a_value_error_too() -> None:
    assert issubclass(BadParameter, ValueError)


def test_an_error_without_remedy_ends_with_what_failed() -> None:
    assert str(SmGitError("It broke.")) == "It broke."
    assert str(BadParameter("ref", None, "is missing")) == "ref=None: is missing."
    assert str(BadParameter("ref", None, "is missing.")) == "ref=None: is missing."
