"""Serve the word language model: a seed, a temperature and a number of words in, text out.

SageMaker's inference toolkit calls ``model_fn`` once, then ``input_fn``, ``predict_fn`` and ``output_fn`` per request.
By hand: ``python generate.py --model-dir model --words 20``.
"""

from __future__ import annotations

import argparse
import json
import math
import os

import numpy as np
import numpy.typing as npt

UNKNOWN, END = "<unk>", "<eos>"
MAX_WORDS = 1000
CLOSING = frozenset(".,:;?!)")


class Model:
    """A trained model.

    :param weights: the arrays that train.py saved, by name.
    :param words: the vocabulary; a word's number is its position.
    :param context: how many words back the model looks.
    """

    def __init__(self, weights: dict[str, npt.NDArray[np.float32]], words: list[str], context: int) -> None:
        self.weights = weights
        self.words = words
        self.context = context

    def scores(self, context: list[int]) -> npt.NDArray[np.float64]:
        """Return the score (log-probability plus a constant) of every next word after ``context``, word numbers."""
        embedded = self.weights["embedding"][context].ravel()
        hidden = np.tanh(embedded @ self.weights["hidden"] + self.weights["hidden_bias"])
        return np.asarray(hidden @ self.weights["output"] + self.weights["output_bias"], dtype=np.float64)


def model_fn(model_dir: str) -> Model:
    """Load what train.py saved into ``model_dir``."""
    with np.load(os.path.join(model_dir, "model.npz"), allow_pickle=False) as arrays:
        weights = {name: arrays[name] for name in arrays.files}
    with open(os.path.join(model_dir, "vocabulary.json"), encoding="utf-8") as file:
        vocabulary = json.load(file)
    return Model(weights, vocabulary["words"], vocabulary["context"])


def input_fn(body: str | bytes, content_type: str) -> dict[str, int | float]:
    """Read a request such as ``{"seed": 111, "temperature": 2.0, "words": 100}``.

    :returns: all three, with defaults 0, 1.0 and 100 for what is absent.
    :raises ValueError: it is not JSON, or a value cannot work; says which and why.
    """
    if content_type.split(";")[0].strip().lower() != "application/json":
        raise ValueError(f"content type {content_type!r}: send application/json")
    try:
        given = json.loads(body)
    except ValueError as error:
        raise ValueError(f"the request is not JSON: {error}") from error
    request = {"seed": 0, "temperature": 1.0, "words": 100}
    if not isinstance(given, dict):
        raise ValueError(f"the request must be a JSON object such as {json.dumps(request)}")
    unknown = sorted(set(given) - set(request))
    if unknown:
        raise ValueError(f"unknown {', '.join(unknown)}: a request holds {', '.join(request)}")
    request.update(given)
    check_request(request)
    return request


def check_request(request: dict[str, int | float]) -> None:
    """Raise a ValueError that names the value which cannot work."""
    seed, temperature, words = request["seed"], request["temperature"], request["words"]
    if type(seed) is not int or seed < 0:
        raise ValueError(f"seed={seed!r}: must be a whole number, 0 or greater")
    if type(temperature) not in (int, float) or not 0 < temperature < math.inf:
        raise ValueError(f"temperature={temperature!r}: must be a number greater than 0")
    if type(words) is not int or not 1 <= words <= MAX_WORDS:
        raise ValueError(f"words={words!r}: must be a whole number from 1 to {MAX_WORDS}")


def draw(model: Model, context: list[int], temperature: float, rng: np.random.Generator) -> int:
    """Draw the number of the next word: a low temperature prefers likely words, a high one levels them."""
    scores = model.scores(context)
    scores[model.words.index(UNKNOWN)] = -np.inf
    with np.errstate(over="ignore"):
        chances = np.exp((scores - scores.max()) / temperature)
    return int(rng.choice(len(chances), p=chances / chances.sum()))


def predict_fn(data: dict[str, int | float], model: Model) -> str:
    """Write ``data["words"]`` words of text; the same request to the same model gives the same text."""
    rng = np.random.default_rng(int(data["seed"]))
    end = model.words.index(END)
    context, tokens, words = [end] * model.context, [], 0
    for _ in range(20 * int(data["words"])):  # an odd model may draw punctuation for ever
        number = draw(model, context, data["temperature"], rng)
        context = [end] * model.context if number == end else [*context[1:], number]
        tokens.append(model.words[number])
        words += tokens[-1][0].isalnum() or tokens[-1][0] == "_"
        if words == data["words"]:
            break
    return join(tokens)


def join(tokens: list[str]) -> str:
    """Set tokens as text: a capital after each end mark, no space before punctuation."""
    text, start = "", True
    for token in tokens:
        if token == END:
            start = True
            continue
        space = "" if not text or token in CLOSING or text.endswith("(") else " "
        text += space + (token[:1].upper() + token[1:] if start else token)
        start = False
    return text


def output_fn(prediction: str, accept: str) -> tuple[str, str]:
    """Return the text and its content type, which is plain text whatever the caller accepts."""
    return prediction, "text/plain"


def main() -> None:
    """Print generated text."""
    parser = argparse.ArgumentParser(description="Generate text with a model that train.py saved.")
    parser.add_argument("--model-dir", default=os.environ.get("SM_MODEL_DIR", "model"))
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--temperature", type=float, default=1.0)
    parser.add_argument("--words", type=int, default=100)
    args = parser.parse_args()
    request = {"seed": args.seed, "temperature": args.temperature, "words": args.words}
    data = input_fn(json.dumps(request), "application/json")
    print(predict_fn(data, model_fn(args.model_dir)))


if __name__ == "__main__":
    main()
