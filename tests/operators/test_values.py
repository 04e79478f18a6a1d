"""Values as templates render them: what is understood, and what is refused by name."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest

from airflow_sm_git.core.errors import BadParameter
from airflow_sm_git.operators.values import (
    as_bool,
    as_int,
    as_list,
    as_mapping,
    as_number,
    as_text_mapping,
    given,
    seconds,
)


@pytest.mark.parametrize(
    ("reader", "value", "expected"),
    [
        (as_list, "['subnet-1', 'subnet-2']", ["subnet-1", "subnet-2"]),
        (as_list, '["subnet-1"]', ["subnet-1"]),
        (as_list, ("a", "b"), ["a", "b"]),
        (as_list, "", []),
        (as_list, None, []),
        (as_mapping, "{'epochs': 3}", {"epochs": 3}),
        (as_mapping, '{"epochs": 3}', {"epochs": 3}),
        (as_mapping, " ", {}),
        (as_mapping, None, {}),
        (as_text_mapping, '{"cost": "5"}', {"cost": "5"}),
        (as_bool, "False", False),
        (as_bool, "true", True),
        (as_bool, "", False),
        (as_bool, 1, True),
        (as_int, "3", 3),
        (as_int, 3.0, 3),
        (as_number, "0.5", 0.5),
        (seconds, timedelta(minutes=1), 60.0),
        (seconds, "90", 90.0),
    ],
)
def test_what_a_template_makes_of_a_value_is_read_back(
    reader: Callable[[str, Any], Any], value: Any, expected: Any
) -> None:
    assert reader("parameter", value) == expected


@pytest.mark.parametrize(
    ("reader", "value"),
    [
        (as_list, "subnet-1"),
        (as_list, {"a": 1}),
        (as_mapping, "{a"),
        (as_mapping, "[1]"),
        (as_text_mapping, {"cost": 5}),
        (as_bool, "perhaps"),
        (as_int, "2.5"),
        (as_int, "nan"),
        (as_int, None),
        (as_number, "inf"),
        (seconds, -1),
        (seconds, "soon"),
    ],
)
def test_anything_else_is_refused_with_the_parameters_name_its_value_and_a_remedy(
    reader: Callable[[str, Any], Any], value: Any
) -> None:
    with pytest.raises(BadParameter) as caught:
        reader("parameter", value)
    assert caught.value.parameter == "parameter"
    assert caught.value.remedy


def test_an_environment_that_cannot_be_read_is_not_shown_for_it_may_hold_secrets() -> None:
    with pytest.raises(BadParameter) as caught:
        as_mapping("environment", "{'KEY': 's3cr3t'")
    assert "s3cr3t" not in str(caught.value)
    with pytest.raises(BadParameter) as caught:
        as_text_mapping("environment", {"KEY": ["s3cr3t"]})
    assert "s3cr3t" not in str(caught.value)


def test_an_empty_text_means_that_nothing_was_given() -> None:
    assert given("") is None
    assert given(0) == 0
