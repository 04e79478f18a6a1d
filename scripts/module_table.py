"""Write the table of modules in CONTRIBUTING.md from the first sentence of each module's docstring.

`python scripts/module_table.py` writes it; `tests/test_package.py` asks whether that has been done.
"""

from __future__ import annotations

import ast
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
BEGIN, END = "<!-- modules -->\n", "<!-- end of modules -->\n"


def table(root: Path) -> str:
    """Render the table.

    :param root: the checkout.
    :returns: Markdown, one row for each module; a package's row is its directory.
    :raises SyntaxError: when a module cannot be parsed.
    """
    paths = sorted([*(root / "airflow_sm_git").rglob("*.py"), *(root / "dags" / "examples").glob("*.py")])
    files = root / "airflow_sm_git" / "demo" / "files"
    rows = [_row(root, path) for path in paths if not path.is_relative_to(files)]
    return "".join(["| Module | Why it exists |\n|---|---|\n", *rows])


def _row(root: Path, path: Path) -> str:
    name = path.relative_to(root).as_posix().removesuffix("__init__.py")
    paragraph = (ast.get_docstring(ast.parse(path.read_text())) or "").split("\n\n")[0]
    sentence = " ".join(paragraph.split()).removesuffix("::").replace("``", "`").replace("|", "\\|")
    return f"| `{name}` | {sentence} |\n"


def updated(page: str, root: Path) -> str:
    """Put the table where it belongs.

    :param page: CONTRIBUTING.md's text.
    :param root: the checkout.
    :returns: the text with the table as it should be.
    :raises ValueError: when the page lacks the two comments between which the table stands.
    """
    head, _, rest = page.partition(BEGIN)
    _, mark, tail = rest.partition(END)
    if not mark:
        raise ValueError(f"CONTRIBUTING.md lacks {BEGIN.strip()} and {END.strip()}, between which the table stands")
    return f"{head}{BEGIN}\n{table(root)}\n{END}{tail}"


def main() -> int:
    """Write the table.

    :returns: the exit code.
    """
    page = ROOT / "CONTRIBUTING.md"
    page.write_text(updated(page.read_text(), ROOT))
    return 0


if __name__ == "__main__":
    sys.exit(main())
