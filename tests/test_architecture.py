"""The layers, and the limits of the house, read from the source itself.

Lint holds what it can see (``pyproject.toml``, banned-api); here is the rest. Every rule is a function from source to
findings, and is tried on a wrong example too, so that a rule that finds nothing is known to be able to.
"""

from __future__ import annotations

import ast
import statistics
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache, cached_property
from pathlib import Path

import pytest

CHECKOUT = Path(__file__).resolve().parent.parent
PACKAGE = "airflow_sm_git"
# The demo's files are the content of a repository that the demo trains from, not modules of ours.
FOREIGN = CHECKOUT / PACKAGE / "demo" / "files"

THIN = ("operators", "sensors", "triggers", "links")
PROGRAMS = ("cli", "demo", "local")
# Each part of the package, and what else of it the part may import.
MAY_IMPORT = {
    "core": {"core"},
    "clients": {"clients", "core"},
    "compat": {"compat"},
    "settings": {"settings", "compat", "core"},
    "hooks": {"hooks", "clients", "core", "compat", "settings"},
    "task_log": {"clients"},
    "task_state": set(),
    **{part: {*THIN, "hooks", "clients", "core", "compat", "settings", "task_log", "task_state"} for part in THIN},
    "chain": {*THIN, "core", "compat", "settings"},
    "example_dags": {*THIN, "chain", "core", "compat", ""},
    "local": {"local"},
    "demo": {"demo", "local", "core"},
    "cli": {"cli", "demo", "local", "hooks", "clients", "core", "compat", "settings", ""},
    "provider_info": {""},
    "": {*THIN, "chain", "hooks"},
}
# What only some parts may import from outside, and which.
GUARDED = {
    "git": {"clients"},
    "boto3": {"clients", *PROGRAMS},
    "botocore": {"clients", "local"},
    "botocore.config": {"clients", "hooks", "local"},  # values, no clients
    "botocore.exceptions": {"clients", "hooks", "local"},
    "airflow.configuration": {"compat", "settings"},
    "airflow.sdk.conf": {"compat", "settings"},
    "airflow.sdk.configuration": {"compat", "settings"},
    f"{PACKAGE}.compat.conf": {"settings"},
    "airflow.version": {"compat"},
    "airflow.__version__": {"compat"},
    "airflow.providers.amazon": {"hooks", "links", "example_dags"},
}
IMPURE = (
    "airflow",
    "boto3",
    "botocore",
    "git",
    "subprocess",
    "socket",
    "shutil",
    "tempfile",
    "pathlib",
    "time",
    "random",
)


@dataclass(frozen=True, eq=False)
class Module:
    """One module's source."""

    name: str
    path: Path
    text: str

    @cached_property
    def tree(self) -> ast.Module:
        """Its syntax tree."""
        return ast.parse(self.text)

    @property
    def part(self) -> str:
        """Which part of the package it belongs to: the name after ``airflow_sm_git.``, or empty."""
        return [*self.name.split("."), ""][1]


@cache
def modules() -> list[Module]:
    """Every module of the package and every example DAG."""
    found = [path for path in (CHECKOUT / PACKAGE).rglob("*.py") if not path.is_relative_to(FOREIGN)]
    named = [(".".join(path.relative_to(CHECKOUT).with_suffix("").parts), path) for path in found]
    examples = sorted((CHECKOUT / "dags" / "examples").glob("*.py"))
    named += [(f"{PACKAGE}.example_dags.{path.stem}", path) for path in examples]
    return [Module(name.removesuffix(".__init__"), path, path.read_text()) for name, path in sorted(named)]


def modules_of_tests() -> list[Module]:
    """Every test module."""
    found = sorted((CHECKOUT / "tests").rglob("*.py"))
    return [Module(".".join(p.relative_to(CHECKOUT).with_suffix("").parts), p, p.read_text()) for p in found]


def imports(tree: ast.AST) -> Iterator[str]:
    """Every imported dotted name; ``from a import b`` gives ``a.b``, because ``b`` may be a module."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield from (f"{'.' * node.level}{node.module or ''}.{alias.name}" for alias in node.names)


def within(name: str, package: str) -> bool:
    """Whether a dotted name is the package or lies in it."""
    return name == package or name.startswith(f"{package}.")


def wrong_way(module: Module) -> list[str]:
    """Imports within the package that do not run downwards."""
    allowed = MAY_IMPORT.get(module.part)
    if allowed is None:
        return [f"{module.name}: the part {module.part!r} is not on the map; add it to MAY_IMPORT and CONTRIBUTING.md"]
    ours = [name for name in imports(module.tree) if within(name, PACKAGE)]
    parts = {name: name.split(".")[1] for name in ours if name != PACKAGE}
    known = {name: part if part in MAY_IMPORT else "" for name, part in parts.items()}
    return [f"{module.name} imports {name}" for name, part in known.items() if part not in allowed]


def guarded(module: Module) -> list[str]:
    """Imports from outside that this part may not have."""
    found = []
    for name in imports(module.tree):
        rules = [package for package in GUARDED if within(name, package)]
        if rules and module.part not in GUARDED[max(rules, key=len)]:  # the rule that is most to the point
            found.append(f"{module.name} imports {name}")
    return found


def impure(module: Module) -> list[str]:
    """What core imports although it is to be pure."""
    if module.part != "core":
        return []
    found = [name for name in imports(module.tree) for package in IMPURE if within(name, package)]
    return [f"{module.name} imports {name}" for name in found]


def environment(module: Module) -> list[str]:
    """Uses of the process's environment outside of settings and the programs."""
    # Clients hand git an environment of its own; an example DAG is a user's file.
    if module.part in ("settings", "clients", "example_dags", *PROGRAMS):
        return []
    used = [node for node in ast.walk(module.tree) if isinstance(node, ast.Attribute)]
    names = [f"{node.value.id}.{node.attr}" for node in used if isinstance(node.value, ast.Name)]
    names += list(imports(module.tree))
    return [f"{module.name} uses {name}" for name in names if name in ("os.environ", "os.getenv", "os.environb")]


def version_branches(module: Module) -> list[str]:
    """Attempts at Airflow's names elsewhere than in the one place that knows which version has which."""
    attempts = [node for node in ast.walk(module.tree) if isinstance(node, ast.Try) and module.part != "compat"]
    return [
        f"{module.name}:{attempt.lineno} tries {name}"
        for attempt in attempts
        for statement in attempt.body
        for name in imports(statement)
        if within(name, "airflow")
    ]


def swallowed(module: Module) -> list[str]:
    """Exception handlers that do nothing at all."""
    handlers = [node for node in ast.walk(module.tree) if isinstance(node, ast.ExceptHandler)]
    idle = [node for node in handlers if all(_idle(statement) for statement in node.body)]
    return [f"{module.name}:{node.lineno}" for node in idle]


def _idle(statement: ast.stmt) -> bool:
    constant = isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Constant)
    return constant or isinstance(statement, ast.Pass)


def undocumented(module: Module) -> list[str]:
    """Public modules, classes, functions and methods without a docstring."""
    found = [] if ast.get_docstring(module.tree) else [module.name]
    found += [f"{module.name}.{name}" for name, node in _public(module.tree) if not ast.get_docstring(node)]
    return found


Documented = ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef


def _public(parent: ast.Module | ast.ClassDef, prefix: str = "") -> Iterator[tuple[str, Documented]]:
    for node in parent.body:
        if not isinstance(node, Documented) or node.name.startswith("_") or _repeats(node):
            continue
        yield f"{prefix}{node.name}", node
        if isinstance(node, ast.ClassDef):
            yield from _public(node, f"{prefix}{node.name}.")


def _repeats(node: Documented) -> bool:
    """Whether the docstring stands elsewhere: an override's at what it overrides, an overload's at the function."""
    names = [ast.unparse(decorator).split("(")[0].split(".")[-1] for decorator in node.decorator_list]
    return bool({"override", "overload", "setter"} & set(names))


def mocked(module: Module) -> list[str]:
    """Patches of our own code. Airflow's and boto3's are not ours, but over loopback need none either."""
    names = [name for name in imports(module.tree) if within(name, "unittest.mock") or within(name, "mock")]
    calls = [node for node in ast.walk(module.tree) if isinstance(node, ast.Attribute) and node.attr == "setattr"]
    patches = [node for node in calls if isinstance(node.value, ast.Name) and node.value.id == "monkeypatch"]
    return [f"{module.name} imports {name}" for name in names] + [f"{module.name}:{node.lineno}" for node in patches]


def function_lengths(module: Module) -> list[int]:
    """Lines of each function, from its name to its end."""
    nodes = [node for node in ast.walk(module.tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)]
    return [(node.end_lineno or node.lineno) - node.lineno + 1 for node in nodes]


RULES: list[Callable[[Module], list[str]]] = [
    *(wrong_way, guarded, impure, environment),
    *(version_branches, swallowed, undocumented),
]


@pytest.mark.parametrize("rule", RULES)
def test_every_module_keeps_the_rule(rule: Callable[[Module], list[str]]) -> None:
    assert [finding for module in modules() for finding in rule(module)] == []


def test_no_test_patches_our_code() -> None:
    assert [finding for module in modules_of_tests() for finding in mocked(module)] == []


@pytest.mark.parametrize(
    ("rule", "name", "text"),
    [
        (wrong_way, "core.names", "from airflow_sm_git.clients.s3 import put"),
        (wrong_way, "clients.s3", "import airflow_sm_git.hooks.aws"),
        (wrong_way, "operators.train", "from airflow_sm_git.local import daemon"),
        (wrong_way, "operators.train", "def f():\n    from airflow_sm_git import local"),
        (wrong_way, "local.app", "from airflow_sm_git.core.names import job_name"),
        (wrong_way, "local.app", "from airflow_sm_git import __version__"),
        (wrong_way, "hooks.aws", "from airflow_sm_git.operators.train import TrainOperator"),
        (wrong_way, "somewhere.new", ""),
        (guarded, "operators.train", "import boto3"),
        (guarded, "hooks.aws", "from botocore.session import Session"),
        (guarded, "operators.train", "from botocore.config import Config"),
        (guarded, "local.app", "import git"),
        (guarded, "operators.train", "from airflow.configuration import conf"),
        (guarded, "operators.train", "from airflow import __version__"),
        (guarded, "operators.train", "from airflow_sm_git.compat import conf"),
        (version_branches, "operators.train", "try:\n    from airflow.sdk import A\nexcept ImportError:\n    A = None"),
        (impure, "core.names", "import subprocess"),
        (impure, "core.names", "from time import time"),
        (environment, "operators.train", "import os\nos.environ['A']"),
        (environment, "core.names", "from os import getenv"),
        (swallowed, "cli", "try:\n    f()\nexcept ValueError:\n    pass"),
        (swallowed, "cli", "try:\n    f()\nexcept ValueError:\n    ..."),
        (undocumented, "cli", "'''Documented.'''\nclass A:\n    '''Documented.'''\n    def run(self): f()"),
        (undocumented, "cli", "def _private(): f()"),
        (mocked, "tests.test_cli", "from unittest import mock"),
        (mocked, "tests.test_cli", "def test(monkeypatch):\n    monkeypatch.setattr('a.b', 1)"),
    ],
)
def test_the_rule_finds_what_breaks_it(rule: Callable[[Module], list[str]], name: str, text: str) -> None:
    assert rule(Module(f"{PACKAGE}.{name}", Path("example.py"), text))


def test_no_module_is_longer_than_400_lines_and_half_are_at_most_150() -> None:
    lengths = {module.name: len(module.text.splitlines()) for module in modules()}
    assert {name: length for name, length in lengths.items() if length > 400} == {}
    assert statistics.median(lengths.values()) <= 150


def test_nine_functions_in_ten_fit_a_screen() -> None:
    lengths = sorted(length for module in modules() for length in function_lengths(module))
    assert lengths[len(lengths) * 9 // 10] <= 40


BLOCKED = """
import importlib, pkgutil, sys

class Blocked:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in ("airflow", "boto3", "botocore", "git", "subprocess"):
            raise ImportError(f"{name} is blocked")

sys.meta_path.insert(0, Blocked())
import airflow_sm_git.core
for module in pkgutil.walk_packages(airflow_sm_git.core.__path__, "airflow_sm_git.core."):
    importlib.import_module(module.name)
"""

LOADED = """
import sys
before = set(sys.modules)
import {module}
loaded = {{name.split(".")[0] for name in set(sys.modules) - before}}
print(*sorted(loaded & {{"airflow", "boto3", "botocore", "git", "starlette", "numpy"}}))
"""


def python(code: str) -> str:
    """What a new interpreter prints."""
    done = subprocess.run([sys.executable, "-c", code], check=True, cwd=CHECKOUT, stdout=subprocess.PIPE, text=True)
    return done.stdout.strip()


def test_core_imports_with_airflow_boto3_git_and_subprocess_blocked() -> None:
    python(BLOCKED)


@pytest.mark.parametrize("module", [PACKAGE, f"{PACKAGE}.provider_info", f"{PACKAGE}.local.pytest_plugin"])
def test_importing_it_loads_no_airflow_boto3_or_git(module: str) -> None:
    assert python(LOADED.format(module=module)) == ""


def test_no_directory_of_tests_shadows_a_package_we_import() -> None:
    names = {path.name for path in (CHECKOUT / "tests").iterdir() if path.is_dir()}
    assert not names & {"airflow", "git", "boto3", "botocore"}
