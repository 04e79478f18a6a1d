"""A trace as people and programs read it."""

from __future__ import annotations

import json

import pytest

from airflow_sm_git.core.trace import Check, Node, Trace, as_json, as_text, printable

EQUAL, OTHER = Check("the digest", "a", "its key", "a"), Check("the digest", "a", "its metadata", "b")


def tree() -> Node:
    commit = Node("Commit", "c0ffee", {"repo": "https://example.com/r.git", "tree": None, "manifests": ["m1", "m2"]})
    package = Node("Package", "s3://b/p", {"digest": "d1"}, children=[commit])
    job = Node(
        "TrainingJob", "job-1", {"arn": "arn:…", "dag": "d", "run": "r", "package": "s3://b/p"}, children=[package]
    )
    gone = Node("Model", "model-2", problems=["it is gone"])
    return Node("Endpoint", "e", {"status": "InService"}, notes=["a note"], children=[job, gone])


def test_the_text_is_a_tree_in_which_everything_stands_below_what_came_of_it() -> None:
    assert as_text(Trace("e", "us-east-1", tree())).splitlines() == [
        "endpoint e",
        "│  status: InService",
        "│  note: a note",
        "├─ training job job-1",
        "│  │  made by: dag d, run r",
        "│  └─ package s3://b/p",
        "│     │  digest: d1",
        "│     └─ commit c0ffee",
        "│           repo: https://example.com/r.git",
        "│           manifests: m1, m2",
        "└─ model model-2",
        "      PROBLEM: it is gone",
    ]


def test_the_json_has_every_fact_and_no_empty_one() -> None:
    found = Trace("e", "us-east-1", tree(), [("Model", "e")])
    found.tree.checks += [EQUAL, OTHER]
    answer = json.loads(json.dumps(as_json(found)))
    assert {key: answer[key] for key in ("schema", "asked", "region", "verified")} == {
        "schema": 1,
        "asked": "e",
        "region": "us-east-1",
        "verified": None,
    }
    assert answer["also"] == [{"kind": "Model", "name": "e"}]
    assert answer["tree"]["checks"] == [
        {"of": "the digest", "found": "a", "against": "its key", "expected": "a", "ok": True},
        {"of": "the digest", "found": "a", "against": "its metadata", "expected": "b", "ok": False},
    ]
    job = answer["tree"]["children"][0]
    assert job["facts"] == {"arn": "arn:…", "dag": "d", "run": "r", "package": "s3://b/p"}
    assert job["children"][0]["children"][0]["facts"] == {
        "repo": "https://example.com/r.git",
        "manifests": ["m1", "m2"],
    }
    assert answer["tree"]["children"][1]["problems"] == ["it is gone"]


@pytest.mark.parametrize(
    ("checks", "problems", "verified", "said"),
    [
        ([EQUAL], [], True, "Verified: 1 comparisons, all equal."),
        ([EQUAL, OTHER], [], False, "NOT verified: 2 comparisons, 1 differ; 0 problems."),
        ([EQUAL], ["gone"], False, "NOT verified: 1 comparisons, 0 differ; 1 problems."),
        ([], [], False, "NOT verified: there was nothing to compare."),
    ],
)
def test_only_what_was_compared_is_equal_and_whole_is_verified(
    checks: list[Check], problems: list[str], verified: bool, said: str
) -> None:
    below = Node("Package", "p", checks=checks, problems=problems)
    found = Trace("e", "r", Node("Endpoint", "e", children=[below]), is_verified=True)
    assert found.verified is verified
    assert as_text(found).splitlines()[-1] == said
    found.is_verified = False
    assert found.verified is None


def test_a_difference_tells_both_sides() -> None:
    text = as_text(Trace("e", "r", Node("Package", "p", checks=[EQUAL, OTHER]), is_verified=True))
    assert "verified: the digest, against its key" in text
    assert "DIFFERENT: the digest is a; its metadata says b" in text


def test_what_else_has_the_name_is_said() -> None:
    assert "There is also the endpoint configuration e" in as_text(
        Trace("e", "r", Node("Endpoint", "e"), [("EndpointConfig", "e")])
    )


def test_nothing_that_others_wrote_can_steer_a_terminal() -> None:
    """Tags, notes and manifests may be a stranger's."""
    node = Node("Model", "m\x1b[2J", {"dag": "a\nendpoint fake\r", "owner": "\u202egnp"}, notes=["é ✓\x07"])
    text = as_text(Trace("m", "r", node))
    assert all(line.isprintable() for line in text.splitlines())
    assert len(text.splitlines()) == 3
    assert "é ✓\\x07" in text
    assert printable("plain – text") == "plain – text"
