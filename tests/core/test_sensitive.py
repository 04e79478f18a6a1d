from __future__ import annotations

import json

import pytest

from airflow_sm_git.core.sensitive import hidden, sensitive_values


@pytest.mark.parametrize(
    "name",
    [
        *("HF_TOKEN", "api_key", "WANDB_API_KEY", "db-password", "AWS_SECRET_ACCESS_KEY", "x-api-key", "private-key"),
        *("AWS_SESSION_TOKEN", "NOTION_TOKEN", "ADMIN_TOKEN", "min_io_token", "TOKENIZER_API_KEY", "HF-TOKEN"),
    ],
)
def test_a_secret_is_known_by_its_name(name: str) -> None:
    assert sensitive_values({name: "abcdef"}, None, {}) == ["abcdef"]
    assert sensitive_values({name: json.dumps("abcdef")}) == ["abcdef"], "as SageMaker keeps hyperparameters"


@pytest.mark.parametrize(
    "name",
    ["max_tokens", "max_new_tokens", "tokenizer_name", "num_input_tokens", "tokens_per_batch", "epochs", "keystone"],
)
def test_what_only_sounds_alike_is_shown(name: str) -> None:
    assert sensitive_values({name: "abcdef"}) == []


def test_what_is_too_short_or_only_a_word_hides_nothing() -> None:
    assert sensitive_values({"token": "1234", "password": None, "secret": "false", "api_key": True}) == []
    assert sensitive_values({"use_auth_token": "False", "pad_token_id": "50256", "tokens_seen": 1000000}) == []


def test_a_number_is_a_secret_under_a_name_that_means_one() -> None:
    given = {"password": 12345678, "api_key": "123456", "PIN_SECRET": "0.123", "BOT_TOKEN": "7012345678"}
    assert sensitive_values(given) == ["12345678", "123456", "0.123", "7012345678"]


def test_a_secret_is_hidden_as_a_log_spells_it() -> None:
    password, key = 'Tr0ub"4dor\\é', "-----BEGIN KEY-----\nbm90IGEga2V5\n-----END KEY-----\n"
    given = {"api_key": password, "private_key": key}
    secrets = sensitive_values(given)
    for printed in (json.dumps(given), json.dumps(given, ensure_ascii=False), str(given), password, *key.splitlines()):
        for part in ("4dor", "bm90"):
            assert part not in hidden(printed, secrets), printed


def test_a_secret_is_found_however_deep_it_lies() -> None:
    overrides = {"CreateModel": {"PrimaryContainer": {"Environment": {"HF_TOKEN": "hf_abc", "MODE": "fast!"}}}}
    variants = [{"variant_name": "first", "environment": {"API_KEY": "key_abc"}}, {"variant_name": "second"}]
    assert sensitive_values(overrides, variants) == ["hf_abc", "key_abc"]
    assert sensitive_values(json.dumps(overrides), json.dumps(variants)) == ["hf_abc", "key_abc"]
    assert sensitive_values(str(overrides), f" {variants}") == ["hf_abc", "key_abc"], "as Jinja writes a dict"


def test_all_that_is_under_a_sensitive_name_is_secret() -> None:
    given = {"credentials": {"user": "ada_l", "keys": ["first", "second"]}, "GOOGLE_CREDENTIALS": '{"id": "ident"}'}
    assert {"ada_l", "first", "second", '{"id": "ident"}', "ident"} <= set(sensitive_values(given))


def test_of_two_secrets_that_begin_alike_nothing_is_left() -> None:
    assert hidden("abcdefgh and abcde", ["abcde", "abcdefgh"]) == "*** and ***"
