"""Train a word language model: guess the next word from the words before it.

A feed-forward network after Bengio et al., "A Neural Probabilistic Language Model" (2003): each word of the context
has an embedding, the embeddings go through one hidden layer, and a softmax gives the probability of every next word.
NumPy only, so that it runs wherever Python does.

Run by SageMaker's script mode: hyperparameters come as arguments, directories as ``SM_*`` variables.
"""

from __future__ import annotations

import argparse
import collections
import json
import os
import sys

# The matrices are small: threads of BLAS would wait for each other longer than they work.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import numpy as np
import numpy.typing as npt

UNKNOWN, END = "<unk>", "<eos>"


def parse_arguments(argv: list[str]) -> argparse.Namespace:
    """Read the hyperparameters, and the directories that script mode gives in the environment."""
    parser = argparse.ArgumentParser(description="Train a word language model.")
    parser.add_argument("--epochs", type=int, default=4, help="passes over the training text")
    parser.add_argument("--context", type=int, default=3, help="how many words back the model looks")
    parser.add_argument("--embed-size", type=int, default=48, help="numbers that stand for one word")
    parser.add_argument("--hidden-size", type=int, default=96, help="units of the hidden layer")
    parser.add_argument("--batch-size", type=int, default=256, help="words per step")
    parser.add_argument("--lr", type=float, default=0.003, help="learning rate")
    parser.add_argument("--min-count", type=int, default=2, help="rarer words become " + UNKNOWN)
    parser.add_argument("--seed", type=int, default=1, help="of the initial weights and of the order of the words")
    parser.add_argument("--data-dir", default=os.environ.get("SM_CHANNEL_TRAINING", "data"))
    parser.add_argument("--model-dir", default=os.environ.get("SM_MODEL_DIR", "model"))
    parser.add_argument("--output-dir", default=os.environ.get("SM_OUTPUT_DATA_DIR", "output"))
    args = parser.parse_args(argv)
    for name in ("epochs", "context", "embed_size", "hidden_size", "batch_size", "lr", "min_count"):
        if not getattr(args, name) > 0:
            parser.error("--{}: must be greater than 0".format(name.replace("_", "-")))
    return args


def read_sentences(directory: str, name: str) -> list[list[str]]:
    """Read one file of the channel: a sentence a line, words apart by spaces."""
    path = os.path.join(directory, name)
    if not os.path.isfile(path):
        raise SystemExit(f"{path} is missing: the channel 'training' must hold train.txt and valid.txt")
    with open(path, encoding="utf-8") as file:
        sentences = [[*line.split(), END] for line in file if line.strip()]
    if not sentences:
        raise SystemExit(f"{path} holds no words")
    return sentences


def build_vocabulary(sentences: list[list[str]], min_count: int) -> list[str]:
    """List the words seen often enough; the two marks come first."""
    counts = collections.Counter(word for sentence in sentences for word in sentence)
    return [UNKNOWN, END, *sorted(word for word, count in counts.items() if count >= min_count and word != END)]


def make_examples(
    sentences: list[list[str]], vocabulary: list[str], context: int
) -> tuple[npt.NDArray[np.intp], npt.NDArray[np.intp]]:
    """Turn sentences into pairs of context (examples x context) and next word (examples), as numbers of words.

    A sentence begins after a context of end marks and ends with one, which is predicted too.
    """
    numbers = {word: number for number, word in enumerate(vocabulary)}
    contexts, following = [], []
    for sentence in sentences:
        line = [numbers[END]] * context + [numbers.get(word, 0) for word in sentence]
        for position in range(context, len(line)):
            contexts.append(line[position - context : position])
            following.append(line[position])
    return np.array(contexts, dtype=np.intp), np.array(following, dtype=np.intp)


def initial_weights(args: argparse.Namespace, words: int) -> dict[str, npt.NDArray[np.float32]]:
    """Draw the weights that training starts from; ``words`` is the size of the vocabulary."""
    rng = np.random.default_rng(args.seed)
    width = args.context * args.embed_size
    weights = {
        "embedding": rng.normal(0, 0.1, (words, args.embed_size)),
        "hidden": rng.normal(0, width**-0.5, (width, args.hidden_size)),
        "hidden_bias": np.zeros(args.hidden_size),
        "output": rng.normal(0, 0.1 * args.hidden_size**-0.5, (args.hidden_size, words)),
        "output_bias": np.zeros(words),
    }
    return {name: weight.astype(np.float32) for name, weight in weights.items()}


def forward(
    weights: dict[str, npt.NDArray[np.float32]], contexts: npt.NDArray[np.intp]
) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32], npt.NDArray[np.float32]]:
    """Return the embedded contexts, the hidden layer, and the probability of every next word, a row per context."""
    embedded = weights["embedding"][contexts].reshape(len(contexts), -1)
    hidden = np.tanh(embedded @ weights["hidden"] + weights["hidden_bias"])
    scores = hidden @ weights["output"] + weights["output_bias"]
    scores -= scores.max(axis=1, keepdims=True)
    np.exp(scores, out=scores)
    scores /= scores.sum(axis=1, keepdims=True)
    return embedded, hidden, scores


def gradients(
    weights: dict[str, npt.NDArray[np.float32]], contexts: npt.NDArray[np.intp], following: npt.NDArray[np.intp]
) -> dict[str, npt.NDArray[np.float32]]:
    """Return the gradient of the mean negative log-likelihood of one batch, by weight."""
    embedded, hidden, error = forward(weights, contexts)
    error[np.arange(len(following)), following] -= 1
    error /= len(following)
    before_tanh = (error @ weights["output"].T) * (1 - hidden * hidden)
    embedding = np.zeros_like(weights["embedding"])
    np.add.at(embedding, contexts.ravel(), (before_tanh @ weights["hidden"].T).reshape(-1, embedding.shape[1]))
    return {
        "embedding": embedding,
        "hidden": embedded.T @ before_tanh,
        "hidden_bias": before_tanh.sum(axis=0),
        "output": hidden.T @ error,
        "output_bias": error.sum(axis=0),
    }


class Adam:
    """Steps scaled by the running mean and spread of each gradient (Kingma and Ba, 2015)."""

    def __init__(self, rate: float) -> None:
        self.rate = rate
        self.steps = 0
        self.mean: dict[str, npt.NDArray[np.float32]] = {}
        self.square: dict[str, npt.NDArray[np.float32]] = {}

    def step(self, weights: dict[str, npt.NDArray[np.float32]], slopes: dict[str, npt.NDArray[np.float32]]) -> None:
        """Move the weights, in place, against their slopes."""
        self.steps += 1
        rate = self.rate * (1 - 0.999**self.steps) ** 0.5 / (1 - 0.9**self.steps)
        for name, slope in slopes.items():
            mean = self.mean.setdefault(name, np.zeros_like(slope))
            square = self.square.setdefault(name, np.zeros_like(slope))
            mean += 0.1 * (slope - mean)
            square += 0.001 * (slope * slope - square)
            weights[name] -= rate * mean / (np.sqrt(square) + 1e-8)


def perplexity(
    weights: dict[str, npt.NDArray[np.float32]], contexts: npt.NDArray[np.intp], following: npt.NDArray[np.intp]
) -> float:
    """Return how many words, all equally likely, the model is on average in doubt between."""
    log_likelihood = 0.0
    for start in range(0, len(following), 1024):
        rows = following[start : start + 1024]
        probabilities = forward(weights, contexts[start : start + 1024])[2][np.arange(len(rows)), rows]
        log_likelihood += float(np.log(np.maximum(probabilities, 1e-38), dtype=np.float64).sum())
    return float(np.exp(-log_likelihood / len(following)))


def unigram_perplexity(train: npt.NDArray[np.intp], valid: npt.NDArray[np.intp], words: int) -> float:
    """Return the perplexity of word counts, each plus one: what a model must beat to have learned from context."""
    counts = np.bincount(train, minlength=words) + 1
    return float(np.exp(-np.log(counts / counts.sum())[valid].mean()))


def save(args: argparse.Namespace, weights: dict[str, npt.NDArray[np.float32]], vocabulary: list[str]) -> None:
    """Write what generate.py needs: the weights and the words they stand for."""
    os.makedirs(args.model_dir, exist_ok=True)
    with open(os.path.join(args.model_dir, "model.npz"), "wb") as weights_file:
        np.savez(weights_file, **weights)  # type: ignore[arg-type]  # NumPy's stub takes names for its own options
    with open(os.path.join(args.model_dir, "vocabulary.json"), "w", encoding="utf-8") as words_file:
        json.dump({"context": args.context, "words": vocabulary}, words_file)


def main(argv: list[str]) -> None:
    """Train, tell the perplexity of the held-out sentences after every epoch, save."""
    args = parse_arguments(argv)
    train_sentences = read_sentences(args.data_dir, "train.txt")
    vocabulary = build_vocabulary(train_sentences, args.min_count)
    contexts, following = make_examples(train_sentences, vocabulary, args.context)
    held_out = make_examples(read_sentences(args.data_dir, "valid.txt"), vocabulary, args.context)
    print(f"{len(following)} words to train on, {len(held_out[1])} held out, {len(vocabulary)} different", flush=True)

    weights = initial_weights(args, len(vocabulary))
    report = {
        "initial": perplexity(weights, *held_out),
        "unigram": unigram_perplexity(following, held_out[1], len(vocabulary)),
    }
    print("before training | initial weights perplexity {initial:.2f}".format(**report), flush=True)
    print("before training | add-one unigram perplexity {unigram:.2f}".format(**report), flush=True)

    optimiser = Adam(args.lr)
    rng = np.random.default_rng(args.seed)
    history = []
    for epoch in range(1, args.epochs + 1):
        order = rng.permutation(len(following))
        for start in range(0, len(order), args.batch_size):
            batch = order[start : start + args.batch_size]
            optimiser.step(weights, gradients(weights, contexts[batch], following[batch]))
        history.append(perplexity(weights, *held_out))
        print(f"epoch {epoch} | validation perplexity {history[-1]:.2f}", flush=True)

    save(args, weights, vocabulary)
    os.makedirs(args.output_dir, exist_ok=True)
    with open(os.path.join(args.output_dir, "perplexity.json"), "w", encoding="utf-8") as file:
        json.dump({**report, "epochs": history}, file)


if __name__ == "__main__":
    main(sys.argv[1:])
