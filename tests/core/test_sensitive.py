from __future__ import annotations

import json

import pytest

from airflow_sm_git.core.sensitive import sensitive_values


@pytest.mark.parametrize("name", ["HF_TOKEN", "api_key", "WANDB_API_KEY", "db-password", "AWS_SECRET_ACCESS_KEY"])
def test_a_secret_is_known_by_its_name(name: str) -> None:
    assert sensitive_values({name: "abcdef"}, None, {}) == ["abcdef"]
    assert sensitive_values({name: json.dumps("abcdef")}) == ["abcdef"], "as SageMaker keeps hyperparameters"


@pytest.mark.parametrize("name", ["max_tokens", "tokenizer", "num_input_tokens", "epochs", "keystone"])
def test_what_only_sounds_alike_is_shown(name: str) -> None:
    assert sensitive_values({name: "abcdef"}) == []


def test_what_is_too_short_or_no_text_hides_nothing() -> None:
    assert sensitive_values({"token": "1234", "secret": 123456, "password": None, "api_key": "123456"}) == ["123456"]
