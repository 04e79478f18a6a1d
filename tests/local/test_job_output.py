"""Metrics and reasons, from lines of output."""

from __future__ import annotations

import pytest

from airflow_sm_git.local.job_output import REASON_LIMIT, JobOutput, algorithm_error, failure_reason


def test_the_error_message_is_the_last_traceback() -> None:
    output = JobOutput()
    for line in (
        "Traceback (most recent call last):",
        "first",
        "ValueError",
        "on",
        "Traceback (most recent call last):",
        "last",
    ):
        output.feed(line)
    assert output.error_message() == "Traceback (most recent call last):\nlast"


def test_without_a_traceback_it_is_the_last_lines() -> None:
    output = JobOutput()
    for number in range(100):
        output.feed(str(number))
    assert output.error_message().splitlines()[-1] == "99"
    assert len(output.error_message().splitlines()) == 12


def test_a_short_reason_has_the_form_that_aws_gives_it() -> None:
    reason = algorithm_error(failure_reason("ExecuteUserScriptError", 3, "boom", "python train.py"), 1)
    expected = 'ExecuteUserScriptError:\nExitCode 3\nErrorMessage "boom"\nCommand "python train.py"'
    assert reason == f"AlgorithmError: {expected}, exit code: 1"


@pytest.mark.parametrize(("message", "command"), [("m" * 5000 + "THE END", "c"), ("m" * 5000 + "THE END", "c" * 5000)])
def test_a_long_reason_is_cut_to_what_aws_allows_and_keeps_the_exception(message: str, command: str) -> None:
    reason = algorithm_error(failure_reason("ExecuteUserScriptError", 1, message, command), 1)
    assert len(reason) == REASON_LIMIT
    assert "THE END" in reason
    assert reason.endswith('", exit code: 1')


def test_the_reason_of_a_kill_says_so() -> None:
    assert 'ExtraInfo "OutOfMemory: Process killed by signal 9"' in failure_reason("E", 137, "", "c", 9)


def test_the_scripts_own_long_words_are_cut_at_their_end() -> None:
    reason = algorithm_error("x" * 5000, 4)
    assert len(reason) == REASON_LIMIT
    assert reason.startswith("AlgorithmError: xxx")
    assert reason.endswith("x, exit code: 4")
