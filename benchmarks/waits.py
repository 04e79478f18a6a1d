"""Waits: calls, CPU, memory and stalls of a real triggerer, beside those of the Amazon provider's trigger.

Three sides, one after the other, with the same server, rows and interval: ours, the provider's ``SageMakerTrigger``
in an environment of its own, and a trigger that does nothing, which shows what of it all is Airflow's.
"""

from __future__ import annotations

import os
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from math import inf
from pathlib import Path

from benchmarks.table import Row
from benchmarks.waits_triggerer import AGE, INTERVAL, Cost, Server, Triggerer, server, until
from tests.peer_environments import CHECKOUT, peer_python

SIZES = (50, 200, 1000)
LIMITED = 1000  # the size that the limits are for
WINDOW = 60.0  # seconds over which the steady state is measured
PATIENCE = 900.0  # seconds that a side has to start all its waits
SETTLE = 10.0
LONG = 620.0
SPREAD = 60.0  # seconds within which all jobs end
PEER = "Amazon provider"
# aiobotocore bounds these itself.
_FREE = ("aiobotocore", "aiohttp", "apache-airflow-providers-amazon", "boto3", "botocore", "s3transfer", "wrapt")


@dataclass
class Outcome:
    """What one triggerer with one number of waits showed.

    :param started: seconds until all but the first ran.
    :param first_cpu, start_cpu: CPU seconds until the first ran, and then the others, less what it uses without them.
    :param first_memory, start_memory: bytes by which it grew, for the first and then for the others.
    :param idle_cpu: CPU seconds a second without them.
    :param steady_cpu: CPU seconds a minute while all waited, less what it uses without them.
    :param listings, describes, log_calls: calls a minute while all waited.
    :param worst_minute: listings in the fullest minute.
    :param stalls: longest delay of the event loop by phase: first, start, steady, end; seconds.
    :param collections: the longest garbage collection by phase, seconds; a stall as long is its.
    :param late: seconds from each job's end until its task was scheduled again.
    :param blocked: how often Airflow's own watchdog complained.
    :param end_calls: what was asked while the jobs ended.
    :param load: of the machine in the last minute.
    :param failed: what did not come in time; "" for nothing.
    """

    side: str
    count: int
    started: float = 0.0
    first_cpu: float = 0.0
    first_memory: float = 0.0
    start_cpu: float = 0.0
    start_memory: float = 0.0
    idle_cpu: float = 0.0
    steady_cpu: float = 0.0
    listings: float = 0.0
    describes: float = 0.0
    log_calls: float = 0.0
    worst_minute: int = 0
    stalls: dict[str, float] = field(default_factory=dict)
    collections: dict[str, float] = field(default_factory=dict)
    late: list[float] = field(default_factory=list, repr=False)
    blocked: int = 0
    end_calls: Counter[str] = field(default_factory=Counter)
    load: float = 0.0
    failed: str = ""


def peer() -> Path:
    """The interpreter of an environment with the newest Airflow, the Amazon provider and aiobotocore."""
    pins = (CHECKOUT / "constraints" / "newest.txt").read_text().splitlines()
    lines = [line for line in pins if not line.startswith("#")]
    amazon = next(line.partition("==")[2] for line in lines if line.startswith("apache-airflow-providers-amazon=="))
    free = [line for line in lines if line.partition("==")[0].strip() not in _FREE]
    return peer_python("amazon-provider", [*free, f"apache-airflow-providers-amazon[aiobotocore]=={amazon}"])


@contextmanager
def scene() -> Iterator[tuple[Path, Path]]:
    """A folder for homes, and one from which the package ``benchmarks`` alone can be imported."""
    with tempfile.TemporaryDirectory(prefix="waits-") as folder:
        code = Path(folder) / "code"
        code.mkdir()
        (code / "benchmarks").symlink_to(CHECKOUT / "benchmarks")
        yield Path(folder), code


def measure(side: str, count: int, window: float) -> Outcome:
    """Run a triggerer with so many waits, from its start to the end of all jobs.

    :param side: as `waits_rows.trigger`'s.
    :param window: seconds of steady waiting.
    """
    python = peer() if side == "amazon" else Path(sys.executable)
    outcome = Outcome(side, count)
    with scene() as (folder, code), server(Path(sys.executable), code) as stub:
        names = sorted(f"waits-{number:05}" for number in range(count))
        stub.ask(do="create", count=count, age=AGE)
        triggerer = Triggerer(folder / "home", python, code, stub.url)
        triggerer.prepare(side, names)
        with triggerer.running(count + 10):
            try:
                _start(triggerer, stub, outcome)
                _wait(triggerer, stub, outcome, window)
                if side != "idle":
                    _end(triggerer, stub, outcome, names)
            except (TimeoutError, ChildProcessError) as error:
                outcome.failed = str(error)
            outcome.blocked = triggerer.blocked()
            outcome.load = os.getloadavg()[0]
    return outcome


def _start(triggerer: Triggerer, stub: Server, outcome: Outcome) -> None:
    time.sleep(SETTLE)
    nothing = triggerer.cost()
    time.sleep(SETTLE)
    before = triggerer.cost()
    outcome.idle_cpu = (before.cpu - nothing.cpu) / (before.at - nothing.at)
    first = _release(triggerer, stub, outcome, 1, 1)
    outcome.first_cpu = first.cpu - before.cpu - outcome.idle_cpu * (first.at - before.at)
    outcome.first_memory = first.memory - before.memory
    _stalls(triggerer, outcome, "first", before.at, first.at)
    after = _release(triggerer, stub, outcome, outcome.count - 1, outcome.count)
    outcome.started = after.at - first.at
    outcome.start_cpu = after.cpu - first.cpu - outcome.idle_cpu * outcome.started
    outcome.start_memory = after.memory - first.memory
    _stalls(triggerer, outcome, "start", first.at, after.at)


def _stalls(triggerer: Triggerer, outcome: Outcome, phase: str, since: float, to: float) -> None:
    outcome.stalls[phase] = triggerer.stalled(since, to)
    outcome.collections[phase] = triggerer.stalled(since, to, "collected")


def _release(triggerer: Triggerer, stub: Server, outcome: Outcome, more: int, total: int) -> Cost:
    """Let more waits go; what the triggerer has used up when all these wait."""
    triggerer.release(more)

    def all_wait() -> bool:
        seen = triggerer.seen()[-1]["running"] >= total
        return seen and (outcome.side != "amazon" or len(stub.ask(do="counts")["described"]) >= total)

    until(all_wait, PATIENCE, f"{total} waits")
    time.sleep(2)
    return triggerer.cost()


def _wait(triggerer: Triggerer, stub: Server, outcome: Outcome, window: float) -> None:
    time.sleep(2 * INTERVAL)  # the last waits' first polls are over
    before = triggerer.cost()
    time.sleep(window)
    after = triggerer.cost()
    minutes = (after.at - before.at) / 60
    calls = [(at, name) for at, name in stub.ask(do="counts", since=before.at)["calls"] if at <= after.at]
    counted = Counter(name for _, name in calls)
    outcome.listings = counted["ListTrainingJobs"] / minutes
    outcome.describes = counted["DescribeTrainingJob"] / minutes
    outcome.log_calls = (counted["DescribeLogStreams"] + counted["GetLogEvents"]) / minutes
    outcome.worst_minute = fullest([at for at, name in calls if name == "ListTrainingJobs"])
    outcome.steady_cpu = (after.cpu - before.cpu) / minutes - outcome.idle_cpu * 60
    _stalls(triggerer, outcome, "steady", before.at, after.at)


def _end(triggerer: Triggerer, stub: Server, outcome: Outcome, names: Sequence[str]) -> None:
    before = time.time()
    ends = stub.ask(do="finish", over=SPREAD)["ends"]
    until(lambda: len(triggerer.resumed()) >= outcome.count, 4 * SPREAD, f"{outcome.count} events")
    after = time.time()
    for index, at in triggerer.resumed():
        outcome.late.append(_seconds(at) - ends[names[index]])
    outcome.end_calls = Counter(name for _, name in stub.ask(do="counts", since=before)["calls"])
    time.sleep(1.5)  # the probe's last line
    _stalls(triggerer, outcome, "end", before, after + 1.5)


def fullest(times: Sequence[float], width: float = 60.0) -> int:
    """The most of some times, in order, that fall within one width."""
    first, most = 0, 0
    for last, at in enumerate(times):
        while at - times[first] >= width:
            first += 1
        most = max(most, last - first + 1)
    return most


def rows(sizes: Sequence[int] = SIZES, window: float = WINDOW) -> list[Row]:
    """Measure all sides at all sizes; takes some minutes for each."""
    found: list[Row] = []
    for count in sizes:
        sides = {}
        for side in ("idle", "ours", "amazon"):
            sides[side] = outcome = measure(side, count, window)
            print(f"  {outcome}", flush=True)
        found += compared(sides["ours"], sides["amazon"], sides["idle"])
        if count == LIMITED:
            found += printing(measure("logs", count, window), sides["idle"])
    return found


def compared(ours: Outcome, theirs: Outcome, idle: Outcome) -> list[Row]:
    """The rows of one number of waits; what starting costs is counted above a trigger that does nothing."""
    count, limited = ours.count, ours.count == LIMITED

    def each(outcome: Outcome, kind: str) -> float:
        above = float(getattr(outcome, kind)) - float(getattr(idle, kind))
        return above / max(1, count - 1) * (1e3 if kind == "start_cpu" else 1e-6)

    def row(what: str, unit: str, one: float, other: float, limit: float | None = None) -> Row:
        them = None if theirs.failed else other
        return Row(f"{count} waits: {what}", one, unit, PEER, them, limit if limited else None)

    late, their_late = max(ours.late, default=inf), max(theirs.late, default=inf)
    return [
        row("listings", "a minute", ours.listings, theirs.listings, 12),
        row("describes", "a minute", ours.describes, theirs.describes, 1),
        row("CPU, the first", "s", ours.first_cpu - idle.first_cpu, theirs.first_cpu - idle.first_cpu),
        row("CPU, each further", "ms", each(ours, "start_cpu"), each(theirs, "start_cpu"), 1),
        row(
            "memory, the first",
            "MB",
            (ours.first_memory - idle.first_memory) / 1e6,
            (theirs.first_memory - idle.first_memory) / 1e6,
        ),
        row("memory, each further", "MB", each(ours, "start_memory"), each(theirs, "start_memory"), 0.02),
        row("CPU while waiting", "s a minute", ours.steady_cpu, theirs.steady_cpu),
        *(
            row(f"longest stall, {phase}{_why(ours, idle, phase)}", "s", stall, other, limit)
            for phase, limit in (("first", None), ("start", None), ("steady", 0.1), ("end", 0.1))
            for stall, other in [(ours.stalls.get(phase, inf), theirs.stalls.get(phase, inf))]
        ),
        row("events that came", "", len(ours.late), len(theirs.late)),
        row("last event after its job's end", "s", late, their_late, INTERVAL + 5),
    ]


def _why(ours: Outcome, idle: Outcome, phase: str) -> str:
    """What a stall owes to others: as long with a trigger that does nothing, or a garbage collection."""
    does_nothing = f"nothing: {idle.stalls[phase]:.2f}, " if phase in idle.stalls else ""
    return f" ({does_nothing}collecting: {ours.collections.get(phase, 0):.2f})"


def printing(logs: Outcome, idle: Outcome) -> list[Row]:
    """The rows of waits that print their job's log meanwhile, which the provider's trigger does not."""
    what, further = f"{logs.count} waits that print logs: ", max(1, logs.count - 1)
    print(f"  {logs}", flush=True)
    return [
        Row(what + "listings", logs.listings, "a minute", limit=12),
        Row(what + "calls for logs", logs.log_calls, "a minute"),
        Row(what + "CPU, each further", (logs.start_cpu - idle.start_cpu) / further * 1e3, "ms"),
        Row(what + "memory, each further", (logs.start_memory - idle.start_memory) / further / 1e6, "MB"),
        Row(what + "CPU while waiting", logs.steady_cpu, "s a minute"),
        Row(what + "longest stall, steady", logs.stalls.get("steady", inf), "s", limit=0.1),
        Row(what + "last event after its job's end", max(logs.late, default=inf), "s", limit=INTERVAL + 5),
    ]


def long_rows(count: int = LIMITED, seconds: float = LONG) -> list[Row]:
    """Our listings over a long time, and when a job is noticed whose end no listing by time of change shows."""
    outcome = Outcome("ours", count)
    with scene() as (folder, code), server(Path(sys.executable), code) as stub:
        names = sorted(f"waits-{number:05}" for number in range(count))
        stub.ask(do="create", count=count, age=AGE)
        triggerer = Triggerer(folder / "home", Path(sys.executable), code, stub.url)
        triggerer.prepare("ours", names)
        with triggerer.running(count + 10):
            _start(triggerer, stub, outcome)
            # The one that is hidden ends later than the first listing that reaches back, which would show it.
            time.sleep(2 * INTERVAL)
            ended = stub.ask(do="finish", names=names[count // 2 : count // 2 + 1], over=0, hidden="time")["ends"]
            _wait(triggerer, stub, outcome, seconds)
            noticed = triggerer.resumed()
    late = inf
    for index, at in noticed:
        late = _seconds(at) - ended[names[index]]
    print(f"  {outcome}", flush=True)
    what = f"{count} waits for {seconds / 60:.0f} minutes: "
    return [
        Row(what + "listings", outcome.listings, "a minute", limit=12),
        Row(what + "listings in the fullest minute", outcome.worst_minute, ""),
        Row(what + "describes", outcome.describes, "a minute", limit=1),
        Row(what + "longest stall", outcome.stalls["steady"], "s", limit=0.1),
        Row(what + "an end that listings by time do not show, noticed after", late, "s", limit=600),
    ]


def _seconds(text: str) -> float:
    """A time of the database's, in UTC, as seconds since 1970."""
    return datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp()
