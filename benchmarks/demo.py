"""The demo's wall time with the environment ready, and where it goes: once in a fresh home, once again."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from benchmarks.table import Row

_PLAIN = """
import sys
from airflow.utils.db import initdb
initdb()
"""


def rows() -> list[Row]:
    """Run it twice."""
    with tempfile.TemporaryDirectory() as home:
        first, steps = _demo(home)
        again, _ = _demo(home)
        print(
            "  steps of the first run, in seconds: " + ", ".join(f"{step} {took:.1f}" for step, took in steps.items())
        )
        peer = _airflow_alone(Path(home))
    return [
        Row("demo, fresh home", first, "s", "Airflow alone: a new database", peer, limit=40),
        Row("demo, again", again, "s", limit=40),
    ]


def _demo(home: str) -> tuple[float, dict[str, float]]:
    kept = ("PATH", "SSL_CERT_FILE")
    environment = {key: os.environ[key] for key in kept if key in os.environ} | {"HOME": home}
    program = Path(sys.executable).parent / "airflow-sm-git"
    began = time.perf_counter()
    subprocess.run([program, "demo"], env=environment, check=True, stdout=subprocess.DEVNULL)
    took = time.perf_counter() - began
    events = Path(home, ".airflow-sm-git/demo/events.jsonl").read_text().splitlines()
    times: dict[str, list[float]] = {}
    for event in map(json.loads, events):
        times.setdefault(event["step"], []).append(event["time"])
    steps = {step: each[-1] - each[0] for step, each in times.items()}
    return took, {"set-up and Airflow": took - sum(steps.values()), **steps}


def _airflow_alone(folder: Path) -> float:
    environment = {**os.environ, "AIRFLOW_HOME": str(folder / "plain"), "HOME": str(folder)}
    began = time.perf_counter()
    subprocess.run([sys.executable, "-c", _PLAIN], env=environment, check=True, capture_output=True)
    return time.perf_counter() - began
