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
from pathlib import Path

from benchmarks.table import Row
from benchmarks.waits_triggerer import INTERVAL, Server, Triggerer, server, until
from tests.peer_environments import CHECKOUT, peer_python

SIZES = (50, 200, 1000)
WINDOW = 60.0  # seconds over which the steady state is measured
PATIENCE = 900.0  # seconds that a side has to start all its waits
SETTLE = 10.0
SPREAD = 60.0  # seconds within which all jobs end
PEER = "Amazon provider"
# aiobotocore bounds these itself.
_FREE = ("aiobotocore", "aiohttp", "apache-airflow-providers-amazon", "boto3", "botocore", "s3transfer", "wrapt")


@dataclass
class Outcome:
    """What one triggerer with one number of waits showed.

    :param start_cpu: CPU seconds from release until all ran, less what it uses without them.
    :param start_memory: bytes by which it grew.
    :param steady_cpu: CPU seconds a minute while all waited, less what it uses without them.
    :param listings, describes: calls a minute while all waited.
    :param worst_minute: listings in the fullest minute.
    :param stalls: longest delay of the event loop by phase: start, steady, end; seconds.
    :param late: seconds from each job's end until its task was scheduled again.
    """

    side: str
    count: int
    started: float = 0.0
    start_cpu: float = 0.0
    start_memory: float = 0.0
    steady_cpu: float = 0.0
    listings: float = 0.0
    describes: float = 0.0
    worst_minute: int = 0
    stalls: dict[str, float] = field(default_factory=dict)
    late: list[float] = field(default_factory=list)
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

    :param side: ``ours``, ``amazon`` or ``idle``.
    :param window: seconds of steady waiting.
    """
    python = peer() if side == "amazon" else Path(sys.executable)
    outcome = Outcome(side, count)
    with scene() as (folder, code), server(Path(sys.executable), code) as stub:
        names = sorted(f"waits-{number:05}" for number in range(count))
        stub.ask(do="create", count=count, age=600.0)
        triggerer = Triggerer(folder / "home", python, code, stub.url)
        triggerer.prepare(side, names)
        with triggerer.running(count + 10):
            try:
                _start(triggerer, stub, outcome)
                _wait(triggerer, stub, outcome, window)
                if side != "idle":
                    _end(triggerer, stub, outcome, names)
            except TimeoutError as error:
                outcome.failed = str(error)
            outcome.blocked = triggerer.blocked()
            outcome.load = os.getloadavg()[0]
    return outcome


def _start(triggerer: Triggerer, stub: Server, outcome: Outcome) -> None:
    time.sleep(SETTLE)
    first = triggerer.cost()
    time.sleep(SETTLE)
    before = triggerer.cost()
    outcome.steady_cpu = idle = (before.cpu - first.cpu) / (before.at - first.at)
    triggerer.release()

    def all_wait() -> bool:
        seen = triggerer.seen()[-1]["running"] >= outcome.count
        return seen and (outcome.side != "amazon" or len(stub.ask(do="counts")["described"]) >= outcome.count)

    until(all_wait, PATIENCE, f"{outcome.count} waits")
    time.sleep(2)
    after = triggerer.cost()
    outcome.started = after.at - before.at
    outcome.start_cpu = after.cpu - before.cpu - idle * outcome.started
    outcome.start_memory = after.memory - before.memory
    outcome.stalls["start"] = triggerer.stalled(before.at, after.at)


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
    outcome.worst_minute = fullest([at for at, name in calls if name == "ListTrainingJobs"])
    outcome.steady_cpu = (after.cpu - before.cpu) / minutes - outcome.steady_cpu * 60
    outcome.stalls["steady"] = triggerer.stalled(before.at, after.at)


def _end(triggerer: Triggerer, stub: Server, outcome: Outcome, names: Sequence[str]) -> None:
    before = time.time()
    ends = stub.ask(do="finish", over=SPREAD)["ends"]
    until(lambda: len(triggerer.resumed()) >= outcome.count, 4 * SPREAD, f"{outcome.count} events")
    after = time.time()
    for index, at in triggerer.resumed():
        outcome.late.append(datetime.fromisoformat(at).replace(tzinfo=UTC).timestamp() - ends[names[index]])
    outcome.end_calls = Counter(name for _, name in stub.ask(do="counts", since=before)["calls"])
    time.sleep(1.5)  # the probe's last line
    outcome.stalls["end"] = triggerer.stalled(before, after + 1.5)


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
    return found


def compared(ours: Outcome, theirs: Outcome, idle: Outcome) -> list[Row]:
    """The rows of one number of waits."""
    return []
