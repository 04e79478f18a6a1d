"""What the demo says to a person, in the width of their terminal."""

from __future__ import annotations

import re
import shlex
import shutil
import sys
import textwrap
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from airflow_sm_git.demo.scene import Scene

_STEPS = {
    "checkout": "resolve the branch to one commit",
    "package": "build sourcedir.tar.gz, put it by digest",
    "train": "train in a SageMaker job",
    "deploy": "serve the model at an endpoint",
    "predict": "ask the endpoint",
    "teardown": "delete endpoint, config and model",
    "report": "put the run's record together",
}
_LAST_LINES = 15


@dataclass(frozen=True)
class Kept:
    """An endpoint that is still there.

    :param lease_until: when a sweep may delete it.
    """

    name: str
    lease_until: str


def say(text: str = "") -> None:
    """Print, at once."""
    print(text, flush=True)


def say_step(step: str, state: str, seconds: float, error: str | None) -> None:
    """One line for a step that has ended, and why if it failed."""
    mark = "ok" if state == "success" else state.upper()
    what = f"{_STEPS.get(step, ''):<42} " if _width() >= 76 else ""
    say(f"  {step:<9} {what}{seconds:6.1f} s  {mark}")
    if error and step != "report":  # the report only repeats which step failed
        for paragraph in error.splitlines():
            say(textwrap.fill(paragraph, _width(), initial_indent="    ", subsequent_indent="    ", **_WHOLE))


def say_success(scene: Scene, report: dict[str, Any], kept: list[Kept], seconds: float, local_state: Path) -> None:
    """Everything worth knowing of a run that succeeded.

    :param report: what `ReportOperator` returned.
    """
    run = report["indexes"]["-1"]
    commit, job, metrics = run["checkout"], run["training_job"], run["training_job"]["metrics"]
    _fact("commit", f"{commit['commit']} {commit['subject']!r} by {commit['author']}")
    _fact("digest", f"{run['package']['digest']} ({run['package']['file_count']} files, the same on every machine)")
    _fact("job", f"{job['job_name']} ({job['status']}, {job['billable_seconds']} billable seconds)")
    _fact(
        "perplexity",
        f"{metrics['validation:perplexity']:.0f} on held-out text; initial weights "
        f"{metrics['initial:perplexity']:.0f}, add-one unigram {metrics['unigram:perplexity']:.0f}",
    )
    _fact("endpoint", f"{run['endpoint']['endpoint_name']} answered:")
    say()
    say(textwrap.fill(run["prediction"]["body"], _width(), initial_indent="    ", subsequent_indent="    ", **_WHOLE))
    say()
    if deleted := (run.get("teardown") or {}).get("deleted"):
        _fact("torn down", ", ".join(deleted))
    _fact("time", f"{seconds:.0f} s in all")
    say()
    say_kept(scene, kept)
    say_places(scene, local_state)
    say("Try next:")
    say(f"    . {shlex.quote(str(scene.script))}   # starts the local SageMaker, points Airflow to it")
    say(f"    git -C {shlex.quote(str(scene.commits.path))} log --oneline")
    earlier = scene.commits.shas[-2][:10]
    say(f"    airflow standalone   # http://localhost:8080, trigger 'quickstart' with another ref, say {earlier}")
    say("    airflow-sm-git local stop")


def say_failure(scene: Scene, refusal: str | None, reported: bool, kept: list[Kept], local_state: Path) -> None:
    """What a run that failed leaves, and where to look.

    :param refusal: why Airflow did not run it at all.
    :param reported: whether the run came to its end, so that its steps have said what failed.
    """
    say("The demo failed.")
    if refusal:
        say(f"Airflow refused the run: {refusal}\n")
    elif not reported:
        say("Airflow ended before the run did. Its last lines:\n")
        everything = scene.log.read_text(errors="replace").splitlines()
        imports = [line for line in everything if "Failed to import" in line or _EXCEPTION.match(line)]
        lines = [*imports[-3:], *everything[-_LAST_LINES:]]
        say(textwrap.indent("\n".join(lines), "    "))
    say(f"The whole log: {scene.log}")
    say()
    say_kept(scene, kept)
    say_places(scene, local_state)


def say_kept(scene: Scene, kept: list[Kept]) -> None:
    """Which endpoints go on, and how to remove them."""
    if not kept:
        return
    for each in kept:
        say(f"Kept, and served by the local SageMaker, which goes on: {each.name} (lease until {each.lease_until}).")
    say("Remove it with:")
    say(f"    . {shlex.quote(str(scene.script))}")
    say(f"    airflow-sm-git sweep --delete {' '.join(f'--endpoint {each.name}' for each in kept)}")
    say("    airflow-sm-git local stop")
    say()


def say_places(scene: Scene, local_state: Path) -> None:
    """What lies on the disk, and how to remove it."""
    program = Path(sys.executable).with_name("airflow-sm-git")
    places = " ".join(shlex.quote(str(place)) for place in (scene.home, local_state))
    say("On your disk is what the next run uses again. To remove it:")
    say(f"    {shlex.quote(str(program))} local stop; rm -r {places}")
    say()


_EXCEPTION = re.compile(r"\w*(?:Error|Exception): ")  # the last line of a traceback
_WHOLE: dict[str, Any] = {"break_long_words": False, "break_on_hyphens": False}  # names and digests can be copied


def _fact(name: str, text: str) -> None:
    say(textwrap.fill(text, _width(), initial_indent=f"{name:<11} ", subsequent_indent=" " * 12, **_WHOLE))


def _width() -> int:
    return max(40, min(110, shutil.get_terminal_size((110, 24)).columns))
