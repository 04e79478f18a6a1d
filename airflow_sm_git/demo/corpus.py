"""The demo's text: the prose of Python's own help, with some topics held out for validation."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

_WORD = re.compile(r"[a-z0-9_]+(?:['.-][a-z0-9_]+)*|[.,:;?!()]")
_CODE = re.compile(r"[={}\[\]|<>@\\]")
_FEWEST_WORDS = 6
_HELD_OUT_SHARE = 8  # one word in so many


@dataclass(frozen=True)
class CorpusStats:
    """What :func:`write_corpus` wrote.

    :param topics: how many topics the text comes from.
    :param held_out: names of the topics held out for validation.
    :param train_words: words and punctuation marks in train.txt.
    :param valid_words: the same in valid.txt.
    """

    topics: int
    held_out: tuple[str, ...]
    train_words: int
    valid_words: int


def split_sentences(text: str) -> list[str]:
    """Return the prose sentences of a help text, in lower case, words and punctuation apart by single spaces.

    A sentence ends in one of ``. : ? !``, has at least six words, and none of the signs that grammar and code
    are full of (``= < > | @`` and brackets); the rest is left out.
    """
    sentences = []
    for paragraph in re.split(r"\n\s*\n", text.replace("\u2018", "'").replace("\u2019", "'")):
        for sentence in re.split(r"(?<=[.?!])\s+", " ".join(paragraph.split())):
            words = _WORD.findall(sentence.lower())
            if sentence.endswith((".", ":", "?", "!")) and len(words) >= _FEWEST_WORDS and not _CODE.search(sentence):
                sentences.append(" ".join(words))
    return sentences


def hold_out(sentences: Mapping[str, Iterable[str]]) -> tuple[list[str], list[str], list[str]]:
    """Split topics into those to train on and those held out.

    Topics are taken in the order of their names' SHA-256 as long as they fit into an eighth of all words. A sentence
    counts once, and one that occurs in a held-out topic is nowhere in the training text.

    :param sentences: the sentences of each topic, by its name.
    :returns: names of held-out topics, training sentences, held-out sentences.
    """
    budget = _count({sentence for topic in sentences.values() for sentence in topic}) // _HELD_OUT_SHARE
    names: list[str] = []
    held: dict[str, None] = {}
    for name in sorted(sentences, key=lambda name: hashlib.sha256(name.encode()).digest()):
        more = held | dict.fromkeys(sentences[name])
        if len(more) > len(held) and _count(more) <= budget:
            names.append(name)
            held = more
    train = dict.fromkeys(sentence for topic in sentences.values() for sentence in topic if sentence not in held)
    return names, list(train), list(held)


def write_corpus(directory: Path) -> CorpusStats:
    """Write ``train.txt`` and ``valid.txt``, a sentence a line, into ``directory``, which is made if need be.

    The text is ``pydoc_data.topics`` of the running Python (under the PSF licence, as Python itself), so it differs a
    little between versions of Python.
    """
    from pydoc_data.topics import topics  # half a megabyte: only who needs it loads it

    names, train, held = hold_out({name: split_sentences(text) for name, text in sorted(topics.items())})
    directory.mkdir(parents=True, exist_ok=True)
    for name, lines in (("train.txt", train), ("valid.txt", held)):
        (directory / name).write_bytes("".join(f"{line}\n" for line in lines).encode())
    return CorpusStats(len(topics), tuple(names), _count(train), _count(held))


def _count(sentences: Iterable[str]) -> int:
    return sum(sentence.count(" ") + 1 for sentence in sentences)
