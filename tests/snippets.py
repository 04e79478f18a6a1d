"""The fenced blocks of a page of documentation."""

from __future__ import annotations

import re
from pathlib import Path

CHECKOUT = Path(__file__).resolve().parent.parent


class Page:
    """What a page asks its reader to run.

    :param name: the page's path in the checkout.
    """

    def __init__(self, name: str) -> None:
        self.text = (CHECKOUT / name).read_text()
        self.blocks: list[tuple[str, str]] = re.findall(r"^```(\w*)\n(.*?)^```$", self.text, re.MULTILINE | re.DOTALL)
        self.commands = [line for kind, text in self.blocks if kind == "sh" for line in text.splitlines()]
        # A snippet is called by its first line, a comment.
        self.snippets = {
            text.partition("\n")[0].removeprefix("# "): text for kind, text in self.blocks if kind == "python"
        }
