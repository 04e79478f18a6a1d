"""The demo repository's history, told backwards: the files of the last commit, and how each commit changed them.

Only the newest version of a file lies in ``files/``, where it is linted and tested; older ones follow from it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from importlib.resources import files

_FILES = ("README.md", "generate.py", "requirements.txt", "train.py")


@dataclass(frozen=True)
class Change:
    """A passage of a file before and after a commit; ``after`` occurs once in the file."""

    file: str
    before: str
    after: str


@dataclass(frozen=True)
class Step:
    """One commit: who, when (ISO 8601 with offset), why, and what it changed."""

    author: str
    date: str
    message: str
    changes: tuple[Change, ...] = ()


_GRADIENT_DESCENT = '''class GradientDescent:
    """Steps of one length for all weights."""

    def __init__(self, rate: float) -> None:
        self.rate = rate

    def step(self, weights: dict[str, npt.NDArray[np.float32]], slopes: dict[str, npt.NDArray[np.float32]]) -> None:
        """Move the weights, in place, against their slopes."""
        for name, slope in slopes.items():
            weights[name] -= self.rate * slope
'''

_ADAM = '''class Adam:
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
'''

_CHECKS = '''def check_request(request: dict[str, int | float]) -> None:
    """Raise a ValueError that names the value which cannot work."""
    seed, temperature, words = request["seed"], request["temperature"], request["words"]
    if type(seed) is not int or seed < 0:
        raise ValueError(f"seed={seed!r}: must be a whole number, 0 or greater")
    if type(temperature) not in (int, float) or not 0 < temperature < math.inf:
        raise ValueError(f"temperature={temperature!r}: must be a number greater than 0")
    if type(words) is not int or not 1 <= words <= MAX_WORDS:
        raise ValueError(f"words={words!r}: must be a whole number from 1 to {MAX_WORDS}")


'''

_FIGURES = """
| | perplexity, Python 3.11 |
|---|---|
| weights before training | 1761 |
| add-one unigram | 218 |
| model after 4 epochs | 67 |
"""

STEPS = (
    Step(
        "Ada Reyes <ada@example.com>",
        "2026-03-02T09:12:00+00:00",
        "Guess the next word from the word before it\n\n"
        "A network with an embedding, a hidden layer and a softmax, and the handlers that serve it.",
    ),
    Step(
        "Tom Okafor <tom@example.com>",
        "2026-03-04T15:40:00+00:00",
        "Fix: never write <unk>\n\n"
        "One word in twenty of the generated text was the mark for rare words. It stays in training,\n"
        "where it stands for all words that the model does not know.",
        (
            Change("generate.py", "", "    scores[model.words.index(UNKNOWN)] = -np.inf\n"),
            Change(
                "README.md",
                "Words seen once in the training text are `<unk>`.\n",
                "Words seen once in the training text are `<unk>`; the model learns and is judged on it, but never "
                "writes it.\n",
            ),
        ),
    ),
    Step(
        "Ada Reyes <ada@example.com>",
        "2026-03-09T10:05:00+01:00",
        "Look at three words instead of one",
        (
            Change(
                "train.py",
                'parser.add_argument("--context", type=int, default=1,',
                'parser.add_argument("--context", type=int, default=3,',
            ),
            Change(
                "README.md",
                "the last word has an embedding of 48 numbers, one hidden\nlayer of 96 units reads it,",
                "each of the last 3 words has an embedding of 48 numbers, one hidden\nlayer of 96 units reads them,",
            ),
        ),
    ),
    Step(
        "Tom Okafor <tom@example.com>",
        "2026-03-11T17:21:00+00:00",
        "Refuse a bad request with a reason\n\n"
        "A temperature of 0 gave a traceback about NaN, a million words kept the endpoint busy for minutes.",
        (
            Change("generate.py", "import json\nimport os\n", "import json\nimport math\nimport os\n"),
            Change("generate.py", "", "MAX_WORDS = 1000\n"),
            Change(
                "generate.py",
                "    :raises ValueError: it is not JSON.\n",
                "    :raises ValueError: it is not JSON, or a value cannot work; says which and why.\n",
            ),
            Change(
                "generate.py",
                '    request = {"seed": 0, "temperature": 1.0, "words": 100}\n'
                "    request.update(json.loads(body))\n"
                "    return request\n",
                "    try:\n"
                "        given = json.loads(body)\n"
                "    except ValueError as error:\n"
                '        raise ValueError(f"the request is not JSON: {error}") from error\n'
                '    request = {"seed": 0, "temperature": 1.0, "words": 100}\n'
                "    if not isinstance(given, dict):\n"
                '        raise ValueError(f"the request must be a JSON object such as {json.dumps(request)}")\n'
                "    unknown = sorted(set(given) - set(request))\n"
                "    if unknown:\n"
                "        raise ValueError(f\"unknown {', '.join(unknown)}: a request holds {', '.join(request)}\")\n"
                "    request.update(given)\n"
                "    check_request(request)\n"
                "    return request\n",
            ),
            Change("generate.py", "", _CHECKS),
        ),
    ),
    Step(
        "Ada Reyes <ada@example.com>",
        "2026-03-16T08:58:00+01:00",
        "Learn by Adam\n\nPlain gradient descent needs five times as many epochs to get as far.",
        (
            Change("train.py", _GRADIENT_DESCENT, _ADAM),
            Change("train.py", "optimiser = GradientDescent(args.lr)", "optimiser = Adam(args.lr)"),
            Change("train.py", '"--lr", type=float, default=0.5,', '"--lr", type=float, default=0.003,'),
            Change("README.md", "It learns by gradient descent.", "It learns by Adam."),
            Change("README.md", "", _FIGURES),
        ),
    ),
)


def read_versions(steps: Sequence[Step] = STEPS) -> list[dict[str, str]]:
    """Return the files (name → text) of every commit, in the order of ``steps``.

    :raises ValueError: a change does not fit the file it is about.
    """
    folder = files(__package__) / "files"
    version = {name: (folder / name).read_bytes().decode() for name in _FILES}
    versions = [version]
    for step in reversed(steps[1:]):
        version = dict(version)
        for change in reversed(step.changes):
            if version[change.file].count(change.after) != 1:
                raise ValueError(f"{step.message.splitlines()[0]!r} does not fit {change.file}: {change.after!r}")
            version[change.file] = version[change.file].replace(change.after, change.before)
        versions.insert(0, version)
    return versions
