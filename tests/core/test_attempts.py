from __future__ import annotations

from dataclasses import dataclass, field, replace
from itertools import permutations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_sm_git.core.attempts import Action, Attempt, Decision, decide
from airflow_sm_git.core.errors import SmGitError
from airflow_sm_git.core.status import TRAINING_JOB

LAST = Attempt(number=3, name="job-3", status="InProgress", request="same", generation=0)
Case = tuple[dict[str, object], Action, int]
CASES: dict[str, Case] = {
    "a running job with an equal request is waited for": ({}, Action.ATTACH, 3),
    "a running job is waited for after a clear too": ({"generation": 7}, Action.ATTACH, 3),
    "a running job with another request is replaced": ({"request": "other"}, Action.REPLACE, 3),
    "a job that is being stopped cannot be attached to": ({"status": "Stopping"}, Action.REPLACE, 3),
    "a job that is being stopped by us cannot either": (
        {"status": "Stopping", "stopped_by_us": True},
        Action.REPLACE,
        3,
    ),
    "a job that is being deleted is waited out": ({"status": "Deleting"}, Action.REPLACE, 3),
    "a finished job of the same generation is taken": ({"status": "Completed"}, Action.TAKE, 3),
    "a finished job of before a clear is done again": ({"status": "Completed", "generation": 1}, Action.SUBMIT, 4),
    "a finished job with another request is done again": (
        {"status": "Completed", "request": "other"},
        Action.SUBMIT,
        4,
    ),
    "a failed job is tried again": ({"status": "Failed"}, Action.SUBMIT, 4),
    "a failed job with another request is tried again": ({"status": "Failed", "request": "other"}, Action.SUBMIT, 4),
    "a job that somebody else stopped stays stopped": ({"status": "Stopped"}, Action.REFUSE, 3),
    "it stays stopped whatever the request": ({"status": "Stopped", "request": "other"}, Action.REFUSE, 3),
    "a clear after somebody else's stop starts anew": ({"status": "Stopped", "generation": 1}, Action.SUBMIT, 4),
    "a job that we stopped is tried again": ({"status": "Stopped", "stopped_by_us": True}, Action.SUBMIT, 4),
    "a job that its own time limit stopped is tried again": (
        {"status": "Stopped", "timed_out": True},
        Action.SUBMIT,
        4,
    ),
}


@pytest.mark.parametrize("case", CASES.values(), ids=CASES.keys())
def test_the_newest_attempt_decides(case: Case) -> None:
    changes, action, number = case
    last = replace(LAST, **changes)  # type: ignore[arg-type]  # a table of fields
    assert decide([last], request="same", generation=0) == Decision(action, number)


def test_the_first_attempt_is_number_one() -> None:
    assert decide([], request="same", generation=0) == Decision(Action.SUBMIT, 1)


def test_older_attempts_decide_nothing_in_whatever_order_they_come() -> None:
    old = [
        replace(LAST, number=1, status="Completed"),
        replace(LAST, number=2, status="Stopped"),
        replace(LAST, number=10, status="Failed"),
    ]
    for attempts in permutations(old):
        assert decide(attempts, request="same", generation=0) == Decision(Action.SUBMIT, 11)


@pytest.mark.parametrize("status", TRAINING_JOB)
@pytest.mark.parametrize("request_hash", ["same", "other"])
@pytest.mark.parametrize("generation", [0, 1])
@pytest.mark.parametrize("by_us", [False, True])
def test_no_state_whatsoever_submits_a_second_job_beside_a_running_one(
    status: str, request_hash: str, generation: int, by_us: bool
) -> None:
    last = replace(LAST, status=status, request=request_hash, generation=generation, stopped_by_us=by_us)
    decision = decide([last], request="same", generation=0)
    if status in ("InProgress", "Stopping", "Deleting"):
        assert decision.action in (Action.ATTACH, Action.REPLACE)
    if decision.action is Action.SUBMIT:
        assert decision.number == LAST.number + 1
    else:
        assert decision.number == LAST.number


def test_an_unknown_status_is_not_guessed_at() -> None:
    with pytest.raises(SmGitError, match="'Dreaming'"):
        decide([replace(LAST, status="Dreaming")], request="same", generation=0)


ENDS: dict[str, dict[str, object]] = {
    "complete": {"status": "Completed"},
    "fail": {"status": "Failed"},
    "stopped by somebody": {"status": "Stopped"},
    "stopped by us": {"status": "Stopped", "stopped_by_us": True},
}


@dataclass
class World:
    """A task's jobs, and what has become of the task. `excused`: a job may be submitted though none has failed."""

    jobs: list[Attempt] = field(default_factory=list)
    generation: int = 0
    request: str = "a"
    excused: bool = True

    def change(self, **what: object) -> None:
        if self.jobs and self.jobs[-1].status == "InProgress":
            self.jobs[-1] = replace(self.jobs[-1], **what)  # type: ignore[arg-type]

    def play(self, event: str) -> None:
        if event in ENDS:
            self.change(**ENDS[event])
        elif event == "clear":
            self.generation, self.excused = self.generation + 1, True
        elif event == "edit":
            self.request, self.excused = f"{self.request}a", True
        else:
            self.attempt()

    def attempt(self) -> None:
        decision = decide(self.jobs, request=self.request, generation=self.generation)
        if decision.action is Action.REPLACE:
            self.change(**ENDS["stopped by us"])
            decision = decide(self.jobs, request=self.request, generation=self.generation)
        assert decision.action is not Action.REPLACE, "a stopped job is not stopped again"
        if decision.action is Action.SUBMIT:
            last = self.jobs[-1] if self.jobs else None
            assert last is None or last.status != "InProgress"
            assert self.excused or (last and (last.status == "Failed" or last.stopped_by_us)), last
            self.jobs.append(Attempt(decision.number, "job", "InProgress", self.request, self.generation))
        elif decision.action in (Action.ATTACH, Action.TAKE):
            self.jobs[-1] = replace(self.jobs[-1], generation=self.generation)  # as submission adopts it
        self.excused = self.excused and decision.action is Action.REFUSE


@given(st.lists(st.sampled_from([*ENDS, "clear", "edit", "try", "try"]), max_size=30))
def test_whatever_happens_no_two_jobs_live_and_none_is_submitted_without_a_reason(events: list[str]) -> None:
    world = World()
    for event in events:
        world.play(event)
        assert sum(job.status == "InProgress" for job in world.jobs) <= 1
        assert [job.number for job in world.jobs] == list(range(1, len(world.jobs) + 1))
