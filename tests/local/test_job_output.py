"""Metrics and reasons, from lines of output."""

from __future__ import annotations

import pytest

from airflow_sm_git.local.job_output import REASON_LIMIT, JobOutput, algorithm_error, failure_reason, final_metrics


def test_metrics_are_captured_by_their_first_group_and_the_last_of_each_is_final() -> None:
    output = JobOutput([{"Name": "loss", "Regex": r"loss=([-0-9.e]+)"}, {"Name": "acc", "Regex": "acc: ([0-9.]+)%"}])
    for line in ("epoch 1 loss=2.5 acc: 50%", "nothing", "epoch 2 loss=1e-3", "loss=word", "loss=-"):
        output.feed(line)
    assert [(m.name, m.value) for m in output.metrics] == [("loss", 2.5), ("acc", 50.0), ("loss", 0.001)]
    assert [(m.name, m.value) for m in final_metrics(output.metrics)] == [("loss", 0.001), ("acc", 50.0)]


def test_two_values_in_one_line_are_two_values() -> None:
    output = JobOutput([{"Name": "x", "Regex": r"x=(\d+)"}])
    output.feed("x=1 x=2")
    assert [m.value for m in output.metrics] == [1.0, 2.0]


@pytest.mark.parametrize("text", ["nan", "inf", "-inf", "1e999", "", "one"])
def test_what_is_no_finite_number_is_not_a_metric(text: str) -> None:
    output = JobOutput([{"Name": "x", "Regex": "x=(.*)"}])
    output.feed(f"x={text}")
    assert output.metrics == []


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
