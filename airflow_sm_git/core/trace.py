"""Where something came from: the tree that a trace has found, as text for people and as JSON.

The JSON, schema 1::

    {"schema": 1, "asked": "…", "region": "us-east-1", "verified": null,
     "also": [{"kind": "Model", "name": "…"}],
     "tree": {"kind": "Endpoint", "name": "…", "facts": {"status": "InService", "commit": "…", …},
              "notes": [], "problems": [],
              "checks": [{"of": "…", "found": "…", "against": "…", "expected": "…", "ok": true}],
              "children": [{"kind": "EndpointConfig", …}]}}

``verified`` is null where nobody asked, else whether everything could be verified; ``also`` names what else has the
name that was asked for. Kinds: Endpoint, EndpointConfig, Variant, Model, ModelData, TrainingJob, Package, Commit,
Manifest. Facts are texts, numbers and lists of texts; those of tags have the tags' names (commit, tree, digest, repo,
package, dag, run, namespace, owner, lease_until). A problem is a link that is missing, or that contradicts another.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

SCHEMA = 1
# What the text leaves out of resources: the package and the commit below say it.
_SAID_BELOW = frozenset(
    {"arn", "tree", "repo", "package", "digest", "model_data", "package_digest", "model_etag", "etag"}
)
_RESOURCES = ("Endpoint", "EndpointConfig", "Model", "ModelData", "TrainingJob")
_MAKER = ("dag", "run", "namespace", "owner", "lease_until")
_TITLES = {
    "EndpointConfig": "endpoint configuration",
    "ModelData": "model data",
    "TrainingJob": "training job",
}


@dataclass(frozen=True)
class Check:
    """Two things that have to be equal.

    :param of: what was looked at, such as "digest of the bytes in S3".
    :param found: what it is.
    :param against: what it was held against.
    :param expected: what that says.
    """

    of: str
    found: str
    against: str
    expected: str

    @property
    def ok(self) -> bool:
        """Whether they are equal."""
        return self.found == self.expected


@dataclass
class Node:
    """One thing on the way from what was asked to a commit, with what is known of it.

    :param facts: texts, numbers or lists of texts; None is left out.
    :param notes: what is good to know.
    :param problems: links that are missing, or that contradict another.
    :param checks: what ``--verify`` has compared here.
    """

    kind: str
    name: str
    facts: dict[str, Any] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    checks: list[Check] = field(default_factory=list)
    children: list[Node] = field(default_factory=list)

    def walk(self) -> Iterator[Node]:
        """This node and all below it, from the top."""
        yield self
        for child in self.children:
            yield from child.walk()


@dataclass
class Trace:
    """The answer to one question.

    :param asked: a name, an ARN or an S3 URI, as it was given.
    :param also: kind and name of what else has that name.
    :param is_verified: whether ``--verify`` was asked for.
    """

    asked: str
    region: str
    tree: Node
    also: list[tuple[str, str]] = field(default_factory=list)
    is_verified: bool = False

    @property
    def checks(self) -> list[Check]:
        """All checks, from the top."""
        return [check for node in self.tree.walk() for check in node.checks]

    @property
    def problems(self) -> list[str]:
        """All problems, from the top, each with where it is."""
        return [f"{title(node)}: {problem}" for node in self.tree.walk() for problem in node.problems]

    @property
    def verified(self) -> bool | None:
        """Whether all could be verified: something was compared, all of it is equal, and no link is missing."""
        if not self.is_verified:
            return None
        return bool(self.checks) and all(check.ok for check in self.checks) and not self.problems


def as_json(trace: Trace) -> dict[str, Any]:
    """The trace as the JSON that the module's docstring describes."""
    return {
        "schema": SCHEMA,
        "asked": trace.asked,
        "region": trace.region,
        "verified": trace.verified,
        "also": [{"kind": kind, "name": name} for kind, name in trace.also],
        "tree": _node_as_json(trace.tree),
    }


def _node_as_json(node: Node) -> dict[str, Any]:
    return {
        "kind": node.kind,
        "name": node.name,
        "facts": {key: value for key, value in node.facts.items() if value is not None},
        "notes": node.notes,
        "problems": node.problems,
        "checks": [{**vars(check), "ok": check.ok} for check in node.checks],
        "children": [_node_as_json(child) for child in node.children],
    }


def as_text(trace: Trace) -> str:
    """The trace as a tree, and what came of verifying it; every character can be printed."""
    lines = list(_lines(trace.tree, "", ""))
    for kind, name in trace.also:
        lines.append(f"There is also the {_TITLES.get(kind, kind.lower())} {name}; give its ARN to trace it.")
    if trace.is_verified:
        lines.append(_verdict(trace))
    return "\n".join(printable(line) for line in lines)


def _verdict(trace: Trace) -> str:
    wrong = [check for check in trace.checks if not check.ok]
    if trace.verified:
        return f"Verified: {len(trace.checks)} comparisons, all equal."
    if not trace.checks:
        return "NOT verified: there was nothing to compare."
    count = f"{len(trace.checks)} comparisons, {len(wrong)} differ; {len(trace.problems)} problems"
    return f"NOT verified: {count}."


def _lines(node: Node, first: str, rest: str) -> Iterator[str]:
    yield f"{first}{title(node)}"
    margin = f"{rest}{'│  ' if node.children else '   '}"
    yield from (f"{margin}{line}" for line in _said(node))
    for child in node.children:
        is_last = child is node.children[-1]
        yield from _lines(child, f"{rest}{'└─ ' if is_last else '├─ '}", f"{rest}{'   ' if is_last else '│  '}")


def _said(node: Node) -> Iterator[str]:
    facts = {key: value for key, value in node.facts.items() if value is not None}
    made_by = [f"{_words(key)} {facts.pop(key)}" for key in _MAKER if key in facts]
    if made_by:
        yield f"made by: {', '.join(made_by)}"
    for key, value in facts.items():
        if not (key in _SAID_BELOW and node.kind in _RESOURCES):
            yield f"{_words(key)}: {', '.join(value) if isinstance(value, list) else value}"
    yield from (f"note: {note}" for note in node.notes)
    yield from (f"PROBLEM: {problem}" for problem in node.problems)
    yield from (_check_line(check) for check in node.checks)


def _words(key: str) -> str:
    return key.replace("_", " ")


def _check_line(check: Check) -> str:
    if check.ok:
        return f"verified: {check.of}, against {check.against}"
    return f"DIFFERENT: {check.of} is {check.found}; {check.against} says {check.expected}"


def title(node: Node) -> str:
    """Kind and name, as a reader knows them."""
    return f"{_TITLES.get(node.kind, node.kind.lower())} {node.name}"


def printable(text: str) -> str:
    """A text in which nothing can steer a terminal: tags and objects are other people's too."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)
