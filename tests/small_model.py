"""A repository whose script trains in no time; the example DAGs run on it as they are."""

from __future__ import annotations

from pathlib import Path

from tests.git_server import Repository

# Its "perplexity" says which version of the script ran.
TRAIN = """
import argparse, os, pathlib, time
parser = argparse.ArgumentParser()
parser.add_argument("--epochs", type=int, default=1)
parser.add_argument("--sleep", type=float, default=0)
args = parser.parse_args()
time.sleep(args.sleep)
if VERSION in BAD:
    raise SystemExit("this version cannot train")
corpus = pathlib.Path(os.environ["SM_CHANNEL_TRAINING"], "train.txt").read_text()
pathlib.Path(os.environ["SM_MODEL_DIR"], "model.txt").write_text(f"version {VERSION} after {corpus}")
for name in ("initial weights", "add-one unigram", "validation"):
    print(f"{name} perplexity {100 / VERSION}", flush=True)
"""
SERVE = """
import json, pathlib
def model_fn(model_dir):
    return pathlib.Path(model_dir, "model.txt").read_text()
def input_fn(body, content_type):
    return json.loads(body)
def predict_fn(data, model):
    if data.get("words") == 13:
        raise RuntimeError("thirteen words are too many")
    return f"{model}, {data['words']} words"
def output_fn(prediction, accept):
    return prediction, "text/plain"
"""


def files(version: int, *, bad: bool = False) -> dict[str, bytes | None]:
    """What a commit holds.

    :param bad: whether the training script of this version fails.
    """
    head = f"VERSION = {version}\nBAD = {[version] if bad else []}\n"
    return {"train.py": (head + TRAIN).encode(), "generate.py": SERVE.encode()}


def small_repository(path: Path, versions: int = 1, *, bad: int = 0, hours: int = 1) -> tuple[Repository, list[str]]:
    """Make a repository with one commit for each version.

    :param bad: the version that cannot train.
    :param hours: how far the commits are apart; the first is made so long after the beginning of 2024.
    :returns: the repository, and the SHAs in the order of the versions, which start with 1.
    """
    repository = Repository(path)
    shas = [
        repository.commit(files(version, bad=version == bad), subject=f"version {version}", hours=hours)
        for version in range(1, versions + 1)
    ]
    return repository, shas


def small_corpus(directory: Path) -> str:
    """Write the training data; returns its URI."""
    directory.mkdir(parents=True)
    (directory / "train.txt").write_text("one sentence")
    return directory.as_uri() + "/"
