"""What may be deleted, over anything that can be seen."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from airflow_sm_git.core.errors import BadParameter
from airflow_sm_git.core.lease import (
    ALIVE,
    DETACHED,
    ENDED,
    GONE,
    LEASE,
    ORDER,
    Rules,
    Seen,
    Verdict,
    decide,
    duration,
    is_ours,
    lease_end,
    whole_tag,
)
from airflow_sm_git.core.names import make_tags, read_tags, tag_value

NOW = datetime(2026, 5, 1, 12, tzinfo=UTC)
RULES = Rules("ours", NOW)
DAY = timedelta(days=1)
PAST, FUTURE = "2026-04-30T12:00:00Z", "2026-05-02T12:00:00Z"
MALFORMED = ("", "soon", "2026-04-30", "2026-04-30T12:00:00", "1", "2026-13-01T00:00:00Z", "2026-04-30T12:00:00Z x")
NAMES = ("a", "b", "c")

# Around the present, so that hours and zones decide; what can be deleted is more frequent than all that cannot.
times = st.integers(-60, 60).map(lambda hours: NOW + timedelta(hours=hours))
zones = st.sampled_from([UTC, timezone(timedelta(hours=14)), timezone(timedelta(hours=-11, minutes=-30))])
moments = st.builds(lambda t, z: t.astimezone(z).isoformat(), times, zones)
leases = st.one_of(*[st.just(PAST)] * 3, moments, st.sampled_from(MALFORMED), st.none())
owners = st.sampled_from(["ours"] * 8 + ["ours ", "theirs", "", None])
marks = st.sampled_from([{}, {DETACHED: "true"}])


def tagged(owner: str | None, lease: str | None, mark: dict[str, str]) -> dict[str, str]:
    tags = {"namespace": owner, LEASE: lease, **mark}
    return {key: value for key, value in tags.items() if value is not None}


resources = st.builds(
    Seen,
    kind=st.sampled_from(ORDER),
    name=st.sampled_from(NAMES),
    created=times,
    tags=st.builds(tagged, owners, leases, marks),
    status=st.sampled_from(["InProgress"] * 4 + ["Stopping", "Completed", "InService", "Creating", ""]),
    uses=st.sampled_from([None, (), ("a",), ("b",), ("c",), ("a", "b")]),
    run=st.sampled_from(["", ALIVE, ENDED, GONE]),
)
scenes = st.lists(resources, min_size=3, max_size=7, unique_by=lambda seen: seen.key)
rules = st.builds(Rules, st.just("ours"), st.just(NOW), st.none() | st.sampled_from([timedelta(0), DAY, 90 * DAY]))
keys = st.sets(st.tuples(st.sampled_from(ORDER), st.sampled_from(NAMES)))


def seen(kind: str = "Endpoint", name: str = "a", lease: str | None = PAST, **fields: object) -> Seen:
    tags = {"namespace": "ours"} | ({} if lease is None else {LEASE: lease})
    return replace(Seen(kind, name, NOW - 2 * DAY, tags), **fields)  # type: ignore[arg-type]


def deleted(verdicts: list[Verdict]) -> list[str]:
    return [str(verdict.seen) for verdict in verdicts if verdict.delete]


@settings(max_examples=100)
@given(scenes, rules, keys)
def test_what_is_not_ours_is_never_deleted(scene: list[Seen], rules: Rules, staying: set[tuple[str, str]]) -> None:
    for verdict in decide(scene, rules, staying):
        assert verdict.seen.tags["namespace"] == "ours"


@settings(max_examples=100)
@given(scenes, rules, keys)
def test_what_stands_or_has_a_lease_nobody_can_read_is_never_deleted(
    scene: list[Seen], rules: Rules, staying: set[tuple[str, str]]
) -> None:
    for verdict in decide(scene, rules, staying):
        if verdict.delete:
            assert LEASE in verdict.seen.tags
            assert verdict.seen.tags[LEASE] not in MALFORMED


@settings(max_examples=100)
@given(scenes, keys)
def test_what_has_a_lease_in_the_future_is_never_deleted_but_a_job_whose_run_is_over(
    scene: list[Seen], staying: set[tuple[str, str]]
) -> None:
    for verdict in decide(scene, RULES, staying):
        if verdict.delete and datetime.fromisoformat(verdict.seen.tags[LEASE]) > NOW:
            assert (verdict.seen.kind, verdict.seen.status) == ("TrainingJob", "InProgress")
            assert verdict.seen.run in (ENDED, GONE)
            assert DETACHED not in verdict.seen.tags


@settings(max_examples=100)
@given(scenes, rules, keys)
def test_what_is_younger_than_asked_and_has_a_lease_in_the_future_is_never_deleted(
    scene: list[Seen], rules: Rules, staying: set[tuple[str, str]]
) -> None:
    for verdict in decide(scene, rules, staying):
        if verdict.delete and verdict.seen.kind != "TrainingJob" and rules.older_than is not None:
            expired = datetime.fromisoformat(verdict.seen.tags[LEASE]) <= NOW
            assert expired or NOW - verdict.seen.created > rules.older_than


@settings(max_examples=100)
@given(scenes, rules, keys)
def test_what_something_that_stays_uses_or_may_use_is_never_deleted(
    scene: list[Seen], rules: Rules, staying: set[tuple[str, str]]
) -> None:
    going = {verdict.seen.key for verdict in decide(scene, rules, staying) if verdict.delete}
    for kind, user in (("EndpointConfig", "Endpoint"), ("Model", "EndpointConfig")):
        for each in scene:
            if each.kind == user and each.key not in going:
                assert not [key for key in going if key[0] == kind and (each.uses is None or key[1] in each.uses)]


@settings(max_examples=100)
@given(scenes, rules, keys)
def test_what_cannot_be_deleted_is_not_and_a_job_that_does_not_run_or_has_a_run_is_not_stopped(
    scene: list[Seen], rules: Rules, staying: set[tuple[str, str]]
) -> None:
    for verdict in decide(scene, rules, staying):
        if verdict.delete:
            assert verdict.seen.key not in staying
            assert verdict.seen.kind != "TrainingJob" or verdict.seen.status == "InProgress"
            assert verdict.seen.kind != "TrainingJob" or verdict.seen.run != ALIVE


@settings(max_examples=100)
@given(scenes, rules, keys)
def test_every_resource_of_ours_has_one_verdict_with_a_reason_and_users_come_before_what_they_use(
    scene: list[Seen], rules: Rules, staying: set[tuple[str, str]]
) -> None:
    verdicts = decide(scene, rules, staying)
    assert {verdict.seen.key for verdict in verdicts} == {each.key for each in scene if is_ours(each, "ours")}
    assert len(verdicts) == len({verdict.seen.key for verdict in verdicts})
    assert all(verdict.reason for verdict in verdicts)
    kinds = [ORDER.index(verdict.seen.kind) for verdict in verdicts]
    assert kinds == sorted(kinds)


def test_an_expired_endpoint_goes_with_its_configuration_and_model() -> None:
    scene = [seen("Model", "m"), seen("EndpointConfig", "c", uses=("m",)), seen("Endpoint", "e", uses=("c",))]
    assert deleted(decide(scene, RULES)) == ["Endpoint e", "EndpointConfig c", "Model m"]


def test_a_lease_that_ends_now_has_ended_and_one_that_ends_later_has_not() -> None:
    assert deleted(decide([seen(lease="2026-05-01T12:00:00Z")], RULES)) == ["Endpoint a"]
    assert deleted(decide([seen(lease="2026-05-01T12:00:01Z")], RULES)) == []
    assert deleted(decide([seen(lease="2026-05-01T14:00:00+02:00")], RULES)) == ["Endpoint a"]


@pytest.mark.parametrize("lease", MALFORMED)
def test_a_lease_that_cannot_be_read_is_shown_and_kept_however_old(lease: str) -> None:
    [verdict] = decide([seen(lease=lease)], Rules("ours", NOW, timedelta(seconds=1)))
    assert (verdict.delete, verdict.reason) == (False, f"its lease cannot be read: {lease!r}")
    assert lease_end(verdict.seen) is None


def test_older_than_takes_what_has_a_lease_and_never_what_stands() -> None:
    old = Rules("ours", NOW, DAY)
    assert deleted(decide([seen(lease=FUTURE)], old)) == ["Endpoint a"]
    assert deleted(decide([seen(lease=FUTURE, created=NOW - DAY)], old)) == []
    assert deleted(decide([seen(lease=None, created=NOW - 900 * DAY)], old)) == []


def test_parts_of_an_endpoint_with_a_renewed_lease_stay_and_so_do_those_that_a_stranger_uses() -> None:
    parts = [seen("EndpointConfig", "c", uses=("m",)), seen("Model", "m")]
    for endpoint in (seen("Endpoint", "e", FUTURE, uses=("c",)), seen("Endpoint", "e", tags={}, uses=("c",))):
        verdicts = {v.seen.kind: v.reason for v in decide([endpoint, *parts], RULES)}
        assert verdicts["EndpointConfig"] == "Endpoint e uses it"
        assert verdicts["Model"] == "EndpointConfig c uses it"


def test_parts_stay_where_what_an_endpoint_uses_cannot_be_told() -> None:
    stranger = seen("Endpoint", "e", tags={}, uses=None)
    [verdict] = decide([stranger, seen("EndpointConfig", "c")], RULES)
    assert (verdict.delete, verdict.reason) == (False, "what Endpoint e uses could not be told")


def test_parts_of_an_endpoint_that_could_not_be_deleted_stay() -> None:
    scene = [seen("Endpoint", "e", uses=("c",)), seen("EndpointConfig", "c", uses=("m",)), seen("Model", "m")]
    assert deleted(decide(scene, RULES, {("Endpoint", "e")})) == []
    assert deleted(decide(scene, RULES, {("EndpointConfig", "c")})) == ["Endpoint e"]


@pytest.mark.parametrize(
    ("lease", "run", "more", "reason"),
    [
        (FUTURE, ENDED, {}, "its run has ended"),
        (FUTURE, GONE, {}, "its run is gone"),
        (PAST, "", {}, "its lease has ended"),
        (PAST, GONE, {DETACHED: "true"}, "its lease has ended"),
        (FUTURE, "", {}, None),
        (FUTURE, ENDED, {DETACHED: "true"}, None),
        (FUTURE, ALIVE, {}, None),
        (PAST, ALIVE, {}, None),
        (None, GONE, {}, None),
    ],
)
def test_a_running_job_is_stopped_when_its_lease_or_its_run_is_over(
    lease: str | None, run: str, more: dict[str, str], reason: str | None
) -> None:
    job = seen("TrainingJob", "j", lease, status="InProgress", run=run)
    [verdict] = decide([replace(job, tags={**job.tags, **more})], RULES)
    assert verdict.delete == (reason is not None)
    assert reason in (None, verdict.reason)


def test_an_endpoint_whose_run_has_ended_is_kept_until_its_lease_ends() -> None:
    assert deleted(decide([seen(lease=FUTURE, run=ENDED)], RULES)) == []


@pytest.mark.parametrize("namespace", ["", "plain", "a=41", "漢字" * 60, "n" * 300])
def test_a_namespace_is_known_again_whatever_it_is_and_no_other_nor_none_is_taken_for_it(namespace: str) -> None:
    tags = read_tags(make_tags({"namespace": namespace}))
    assert is_ours(seen(tags=tags), namespace)
    assert not is_ours(seen(tags=tags), f"{namespace}x")
    assert not is_ours(seen(tags={}), namespace)


def test_a_text_that_a_tag_could_not_hold_names_nothing() -> None:
    assert whole_tag("a_dag.with...dots") == "a_dag.with...dots"
    assert whole_tag(read_tags(make_tags({"dag": "d" * 257}))["dag"]) is None
    assert whole_tag(tag_value("漢字" * 60)) is None
    assert whole_tag("") is None and whole_tag(None) is None


@pytest.mark.parametrize(
    ("text", "seconds"), [("3d", 259200), ("12h", 43200), ("90m", 5400), ("45s", 45), (" 60 ", 60)]
)
def test_a_duration_is_read(text: str, seconds: int) -> None:
    assert duration("older_than", text) == timedelta(seconds=seconds)


@pytest.mark.parametrize("text", ["", "0", "0d", "-1d", "3w", "d", "1.5h", "1e9", "٣d", "9" * 10])
def test_what_is_no_duration_is_refused(text: str) -> None:
    with pytest.raises(BadParameter, match=r"older_than=.*is not a duration"):
        duration("older_than", text)
