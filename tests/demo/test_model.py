from __future__ import annotations

import collections
import json
import math
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from airflow_sm_git.demo.repository import METRIC_DEFINITIONS, Commits
from tests.demo.conftest import Trained, check_out, load, train

REQUEST = '{"seed": 111, "temperature": 2.0, "words": 100}'


def metrics(printed: str) -> dict[str, list[float]]:
    """Find the metrics as SageMaker does: by regular expressions over the log."""
    return {
        definition["Name"]: [float(value) for value in re.findall(definition["Regex"], printed)]
        for definition in METRIC_DEFINITIONS
    }


def answer(code: Path, model: Path, body: str | bytes) -> tuple[str, str]:
    """Send a request through the four handlers."""
    script = load(code / "generate.py")
    loaded = script.model_fn(str(model))
    result: tuple[str, str] = script.output_fn(
        script.predict_fn(script.input_fn(body, "application/json"), loaded), "*/*"
    )
    return result


@pytest.fixture(scope="module")
def small(corpus: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tenth of the text, for runs whose model need not be good."""
    folder = tmp_path_factory.mktemp("small")
    for name in ("train.txt", "valid.txt"):
        (folder / name).write_text("".join((corpus / name).read_text().splitlines(keepends=True)[::10]))
    return folder


def test_the_model_beats_its_initial_weights_and_the_unigram_by_far(newest: Trained) -> None:
    found = metrics(newest.printed)
    assert len(found["validation:perplexity"]) == 2
    last = found["validation:perplexity"][-1]
    assert last < found["initial:perplexity"][0] / 10
    assert last < found["unigram:perplexity"][0] / 2


def test_a_metric_definition_finds_its_own_lines_only(newest: Trained) -> None:
    assert {name: len(values) for name, values in metrics(newest.printed).items()} == {
        "validation:perplexity": 2,
        "initial:perplexity": 1,
        "unigram:perplexity": 1,
    }
    assert metrics("epoch 1 | validation perplexity 412.31\n")["validation:perplexity"] == [412.31]


def test_the_printed_perplexities_are_those_of_the_saved_model_and_of_counted_words(
    newest: Trained, corpus: Path
) -> None:
    model = load(newest.code / "generate.py").model_fn(str(newest.model))
    numbers = {word: number for number, word in enumerate(model.words)}
    counts = collections.Counter(
        numbers.get(word, 0) for line in (corpus / "train.txt").open() for word in [*line.split(), "<eos>"]
    )
    neural, unigram = [], []
    for line in (corpus / "valid.txt").open():
        context = [numbers["<eos>"]] * model.context
        for word in [*line.split(), "<eos>"]:
            number = numbers.get(word, numbers["<unk>"])
            scores = model.scores(context)
            neural.append(scores[number] - scores.max() - math.log(np.exp(scores - scores.max()).sum()))
            unigram.append(math.log((counts[number] + 1) / (counts.total() + len(numbers))))
            context = [*context[1:], number]
    found = metrics(newest.printed)
    assert found["validation:perplexity"][-1] == pytest.approx(math.exp(-np.mean(neural)), rel=1e-3)
    assert found["unigram:perplexity"][0] == pytest.approx(math.exp(-np.mean(unigram)), rel=1e-3)


def test_the_words_of_the_model_come_from_the_training_text_alone(newest: Trained, corpus: Path) -> None:
    words = json.loads((newest.model / "vocabulary.json").read_text())["words"]
    assert set(words) - {"<unk>", "<eos>"} <= set((corpus / "train.txt").read_text().split())


def test_the_perplexities_are_an_output_of_the_job_too(newest: Trained) -> None:
    report = json.loads((newest.output / "perplexity.json").read_text())
    found = metrics(newest.printed)
    assert report["epochs"] == pytest.approx(found["validation:perplexity"], abs=0.01)
    assert [report["initial"], report["unigram"]] == pytest.approx(
        [*found["initial:perplexity"], *found["unigram:perplexity"]], abs=0.01
    )


@pytest.mark.parametrize("index", range(5))
def test_every_commit_trains_and_serves(repository: Commits, small: Path, tmp_path: Path, index: int) -> None:
    code = check_out(repository, repository.shas[index], tmp_path / "code")
    trained = train(code, small, tmp_path, "--epochs", "1", "--seed", "3")
    found = metrics(trained.printed)
    assert found["validation:perplexity"][0] < found["initial:perplexity"][0]
    text, content_type = answer(code, trained.model, REQUEST)
    assert content_type == "text/plain"
    assert len(re.findall(r"[\w<]+", text)) >= 100
    more = answer(code, trained.model, '{"seed": 1, "temperature": 0.8, "words": 300}')[0]
    assert ("<unk>" in more) == (index == 0)


@pytest.mark.slow
def test_perplexity_falls_with_every_commit_that_changes_the_training(
    repository: Commits, corpus: Path, tmp_path: Path
) -> None:
    last = []
    for sha in repository.shas:
        code = check_out(repository, sha, tmp_path / sha / "code")
        last.append(metrics(train(code, corpus, tmp_path / sha).printed)["validation:perplexity"][-1])
    assert last[0] == last[1] > last[2] == last[3] > last[4]
    assert last[4] < last[0] * 0.75


def test_the_same_seed_gives_the_same_model(scripts: Path, small: Path, tmp_path: Path) -> None:
    runs = [train(scripts, small, tmp_path / name, "--epochs", "1", "--seed", name[0]) for name in ("1a", "1b", "2")]
    assert runs[0].printed == runs[1].printed != runs[2].printed


def test_the_gradients_are_those_of_the_likelihood(scripts: Path) -> None:
    script: Any = load(scripts / "train.py")
    args = script.parse_arguments(["--context", "2", "--embed-size", "3", "--hidden-size", "4"])
    weights = {name: weight.astype(np.float64) for name, weight in script.initial_weights(args, 6).items()}
    contexts, following = np.array([[0, 1], [2, 2], [5, 1]]), np.array([3, 0, 3])
    slopes = script.gradients(weights, contexts, following)
    step = 1e-5
    for name, weight in weights.items():
        for place in np.ndindex(weight.shape):
            losses = []
            for sign in (1, -1):
                weight[place] += sign * step
                losses.append(math.log(script.perplexity(weights, contexts, following)))
                weight[place] -= sign * step
            assert slopes[name][place] == pytest.approx((losses[0] - losses[1]) / (2 * step), abs=1e-7)


def test_the_same_request_gives_the_same_text_and_another_seed_another(newest: Trained) -> None:
    text = answer(newest.code, newest.model, REQUEST)[0]
    assert text == answer(newest.code, newest.model, REQUEST.encode())[0]
    assert text != answer(newest.code, newest.model, REQUEST.replace("111", "112"))[0]


@pytest.mark.parametrize("words", [1, 7, 1000])
def test_the_text_has_as_many_words_as_asked_for(newest: Trained, words: int) -> None:
    text = answer(newest.code, newest.model, json.dumps({"words": words}))[0]
    assert len(re.findall(r"[a-z0-9_]+(?:['.-][a-z0-9_]+)*", text.lower())) == words
    assert "<" not in text


def test_a_low_temperature_prefers_likely_words(newest: Trained) -> None:
    model = load(newest.code / "generate.py").model_fn(str(newest.model))
    likely = set(np.argsort(model.weights["output_bias"])[-100:])
    common = {model.words[number] for number in likely}

    def share(temperature: float) -> float:
        text = answer(newest.code, newest.model, json.dumps({"temperature": temperature, "words": 300}))[0]
        words = text.lower().split()
        return sum(word.strip(".,:;?!()") in common for word in words) / len(words)

    assert share(0.3) > share(1.0) > share(3.0)
    assert answer(newest.code, newest.model, '{"temperature": 1e-300, "words": 20}')[0]


def test_text_is_set_like_prose(scripts: Path) -> None:
    join = load(scripts / "generate.py").join
    tokens = ["see", "also", "(", "pep", "634", ")", ":", "<eos>", "<eos>", "a", "word", ",", "then", "."]
    assert join(tokens) == "See also (pep 634): A word, then."


def test_a_model_that_knows_punctuation_only_still_answers(scripts: Path) -> None:
    script: Any = load(scripts / "generate.py")
    weights = {"embedding": (3, 2), "hidden": (2, 2), "hidden_bias": (2,), "output": (2, 3), "output_bias": (3,)}
    model = script.Model({name: np.zeros(shape) for name, shape in weights.items()}, ["<unk>", "<eos>", "."], 1)
    assert set(script.predict_fn({"seed": 0, "temperature": 1.0, "words": 5}, model)) == {"."}


def test_what_a_request_leaves_out_has_a_default(scripts: Path) -> None:
    input_fn = load(scripts / "generate.py").input_fn
    assert input_fn(b"{}", "application/json; charset=utf-8") == {"seed": 0, "temperature": 1.0, "words": 100}


@pytest.mark.parametrize(
    ("body", "problem"),
    [
        ('{"temperature": 0}', "temperature=0: must be a number greater than 0"),
        ('{"temperature": NaN}', "temperature=nan"),
        ('{"temperature": Infinity}', "temperature=inf"),
        ('{"temperature": "2"}', "temperature='2'"),
        ('{"temperature": true}', "temperature=True"),
        ('{"words": 0}', "words=0: must be a whole number from 1 to 1000"),
        ('{"words": 1001}', "words=1001"),
        ('{"words": 1.5}', "words=1.5"),
        ('{"seed": -1}', "seed=-1: must be a whole number, 0 or greater"),
        ('{"seed": "111"}', "seed='111'"),
        ('{"seed": null}', "seed=None"),
        ('{"length": 5}', "unknown length: a request holds seed, temperature, words"),
        ("[1]", "must be a JSON object such as"),
        ("seed=1", "the request is not JSON"),
        (b"\xff\xfe", "the request is not JSON"),
    ],
)
def test_a_bad_request_is_refused_with_a_reason(scripts: Path, body: str | bytes, problem: str) -> None:
    input_fn = load(scripts / "generate.py").input_fn
    with pytest.raises(ValueError, match=re.escape(problem)):
        input_fn(body, "application/json")


def test_another_content_type_is_refused(scripts: Path) -> None:
    input_fn = load(scripts / "generate.py").input_fn
    with pytest.raises(ValueError, match="'text/csv': send application/json"):
        input_fn("{}", "text/csv")


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        ((), "valid.txt is missing: the channel 'training' must hold train.txt and valid.txt"),
        (("--epochs", "0"), "--epochs: must be greater than 0"),
        (("--lr", "nan"), "--lr: must be greater than 0"),
        (("--epoch-count", "3"), "unrecognized arguments"),
    ],
)
def test_training_that_cannot_work_ends_with_a_reason(
    scripts: Path, tmp_path: Path, arguments: tuple[str, ...], problem: str
) -> None:
    (tmp_path / "train.txt").write_text("a few words .\n")
    command = [sys.executable, "-B", str(scripts / "train.py"), "--data-dir", str(tmp_path), *arguments]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=60)
    assert done.returncode != 0
    assert problem in done.stderr.replace("\n", " ")


def test_text_can_be_generated_by_hand(newest: Trained) -> None:
    command = [sys.executable, "-B", "generate.py", "--model-dir", str(newest.model), "--words", "20", "--seed", "111"]
    done = subprocess.run(command, cwd=newest.code, capture_output=True, text=True, timeout=60, check=True)
    expected = answer(newest.code, newest.model, '{"seed": 111, "words": 20}')[0]
    assert done.stdout == expected + "\n"
