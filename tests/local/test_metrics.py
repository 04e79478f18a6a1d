"""Metrics, found in lines by a process of their own."""

from __future__ import annotations

import threading

import psutil
import pytest

from airflow_sm_git.local.metrics import MetricSearch, final_metrics


def search(definitions: list[dict[str, str]], *lines: str) -> tuple[MetricSearch, list[str]]:
    said: list[str] = []
    made = MetricSearch(definitions, said.append)
    for line in lines:
        made.feed(line)
    made.finish()
    return made, said


def found(definitions: list[dict[str, str]], *lines: str) -> list[tuple[str, float]]:
    return [(metric.name, metric.value) for metric in search(definitions, *lines)[0].found]


def test_metrics_are_captured_by_their_first_group_and_the_last_of_each_is_final() -> None:
    definitions = [{"Name": "loss", "Regex": r"loss=([-0-9.e]+)"}, {"Name": "acc", "Regex": "acc: ([0-9.]+)%"}]
    lines = ("epoch 1 loss=2.5 acc: 50%", "nothing", "epoch 2 loss=1e-3", "loss=word", "loss=-")
    made, said = search(definitions, *lines)
    assert [(m.name, m.value) for m in made.found] == [("loss", 2.5), ("acc", 50.0), ("loss", 0.001)]
    assert [(m.name, m.value) for m in final_metrics(made.found)] == [("loss", 0.001), ("acc", 50.0)]
    assert said == []


def test_two_values_in_one_line_are_two_values() -> None:
    assert found([{"Name": "x", "Regex": r"x=(\d+)"}], "x=1 x=2") == [("x", 1.0), ("x", 2.0)]


def test_without_a_group_the_whole_match_is_the_value() -> None:
    assert found([{"Name": "x", "Regex": r"\d+"}], "seen 7 é\u2028\udcff of 9") == [("x", 7.0), ("x", 9.0)]


@pytest.mark.parametrize("text", ["nan", "inf", "-inf", "1e999", "", "one"])
def test_what_is_no_finite_number_is_not_a_metric(text: str) -> None:
    assert found([{"Name": "x", "Regex": "x=(.*)"}], f"x={text}") == []


@pytest.mark.parametrize("expression", ["(", "a{9999999999999999999}"])
def test_a_broken_expression_is_an_error_that_names_its_metric(expression: str) -> None:
    with pytest.raises(ValueError, match=r"^loss: "):
        MetricSearch([{"Name": "loss", "Regex": expression}], print)


def test_an_expression_that_takes_for_ever_loses_its_metric_alone_and_is_named() -> None:
    definitions = [{"Name": "evil", "Regex": "(a+)+$"}, {"Name": "x", "Regex": r"x=(\d+)"}]
    made, said = search(definitions, "x=1", "a" * 40 + "!", "x=2", "a" * 40 + "!", "x=3")
    assert [(m.name, m.value) for m in made.found] == [("x", 1.0), ("x", 2.0), ("x", 3.0)]
    assert len(said) == 1
    assert "Metric evil" in said[0]
    assert "'(a+)+$'" in said[0]


def test_many_lines_are_all_searched_before_the_end() -> None:
    lines = [f"x={number} {'y' * 200}" for number in range(5000)]
    assert found([{"Name": "x", "Regex": r"x=(\d+)"}], *lines) == [("x", float(number)) for number in range(5000)]


def test_without_definitions_there_is_no_process_and_with_them_none_is_left() -> None:
    before = {child.pid for child in psutil.Process().children()}, threading.active_count()
    search([], "x=1")
    plain = MetricSearch([], print)
    plain.feed("x=1")
    assert ({child.pid for child in psutil.Process().children()}, threading.active_count()) == before
    search([{"Name": "x", "Regex": "x"}], "x=1")
    assert ({child.pid for child in psutil.Process().children()}, threading.active_count()) == before


@pytest.mark.parametrize("lines", [1, 2000])
def test_a_process_that_does_not_answer_is_waited_for_a_limited_time_only(lines: int) -> None:
    said: list[str] = []
    made = MetricSearch([{"Name": "x", "Regex": r"x=(\d+)"}], said.append, patience=0.3)
    before = {child.pid for child in psutil.Process().children()}
    made.feed("x=1")
    (process,) = (child for child in psutil.Process().children() if child.pid not in before)
    process.suspend()
    for _ in range(lines):
        made.feed("y" * 100)
    made.finish()
    assert len(said) == 1
    assert "take too long" in said[0]
    assert not process.is_running()


def test_a_process_that_died_is_said_and_the_lines_go_on() -> None:
    said: list[str] = []
    made = MetricSearch([{"Name": "x", "Regex": r"x=(\d+)"}], said.append)
    before = {child.pid for child in psutil.Process().children()}
    made.feed("x=1")
    (process,) = (child for child in psutil.Process().children() if child.pid not in before)
    process.kill()
    for _ in range(20_000):
        made.feed("x=2")
    made.finish()
    assert len(said) == 1
