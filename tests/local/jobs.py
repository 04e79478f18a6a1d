"""What the tests of jobs and models share: archives, an object store, and a way to run one script as a training job."""

from __future__ import annotations

import io
import json
import tarfile
import textwrap
import time
import zipfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil

from airflow_sm_git.local.objects import ObjectStore
from airflow_sm_git.local.training_run import Outcome, TrainingRun

BUCKET = "bucket"
STUBBORN = """
import os, signal, subprocess, sys, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
child = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('up', flush=True); time.sleep(600)"
grandchild = subprocess.Popen([sys.executable, "-c", child], start_new_session=True, stdout=subprocess.PIPE)
grandchild.stdout.readline()
print("pids", os.getpid(), grandchild.pid, flush=True)
time.sleep(600)
"""
"""A script that ignores SIGTERM and has a grandchild in a session of its own that does so too; prints both pids."""


def archive(files: Mapping[str, str | bytes]) -> io.BytesIO:
    """A ``.tar.gz`` of files by name; text is dedented."""
    made = io.BytesIO()
    with tarfile.open(fileobj=made, mode="w:gz") as tar:
        for name, content in files.items():
            data = content if isinstance(content, bytes) else textwrap.dedent(content).encode()
            member = tarfile.TarInfo(name)
            member.size = len(data)
            tar.addfile(member, io.BytesIO(data))
    made.seek(0)
    return made


def wheel(folder: Path, name: str, source: str) -> str:
    """Write a wheel of one module, without dependencies; returns its file name."""
    file = f"{name}-1.0-py3-none-any.whl"
    info = f"{name}-1.0.dist-info"
    with zipfile.ZipFile(folder / file, "w") as wheel_file:
        wheel_file.writestr(f"{name}.py", source)
        wheel_file.writestr(f"{info}/METADATA", f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
        wheel_file.writestr(
            f"{info}/WHEEL", "Wheel-Version: 1.0\nGenerator: t\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
        )
        wheel_file.writestr(f"{info}/RECORD", "")
    return file


def eventually(condition: Callable[[], bool], what: str, seconds: float = 30) -> None:
    """Wait until a condition holds; fails with ``what`` when it does not within a generous time."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"never happened: {what}"
        time.sleep(0.01)


def gone(*pids: int) -> bool:
    """Whether none of these processes runs (a zombie does not run)."""

    def runs(pid: int) -> bool:
        try:
            return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
        except psutil.NoSuchProcess:
            return False

    return not any(runs(pid) for pid in pids)


class Lab:
    """An object store with one bucket, and training jobs over it."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.objects = ObjectStore(root / "s3")
        self.objects.create_bucket(BUCKET)
        self.lines: list[str] = []
        self.phases: list[str] = []

    def put(self, key: str, data: str | bytes | io.BytesIO) -> str:
        """Store an object; returns its URI."""
        body = data if isinstance(data, io.BytesIO) else io.BytesIO(data.encode() if isinstance(data, str) else data)
        self.objects.write(BUCKET, key, body)
        return f"s3://{BUCKET}/{key}"

    def get(self, key: str) -> bytes:
        """An object's bytes."""
        reader, _ = self.objects.open_read(BUCKET, key)
        with reader:
            return reader.read()

    def members(self, key: str) -> dict[str, bytes]:
        """The files of an archive in the store."""
        with tarfile.open(fileobj=io.BytesIO(self.get(key))) as tar:
            found = {member.name: tar.extractfile(member) for member in tar if member.isfile()}
            return {name: file.read() for name, file in found.items() if file}

    def keys(self, prefix: str = "") -> list[str]:
        """All keys under a prefix."""
        return [info.key for info in self.objects.list(BUCKET, prefix)]

    def job(
        self, script: str | Mapping[str, str | bytes], hyperparameters: Mapping[str, str] | None = None, **more: Any
    ) -> TrainingRun:
        """A job that runs a script (or the files of a source directory with ``train.py``), ready to run.

        Capitalised keywords go into the request, the others to :class:`TrainingRun`.
        """
        files = {"train.py": script} if isinstance(script, str) else script
        request = {
            "TrainingJobName": "job",
            "RoleArn": "arn:aws:iam::000000000000:role/r",
            "AlgorithmSpecification": {"TrainingImage": "image", "TrainingInputMode": "File"},
            "HyperParameters": {
                "sagemaker_program": '"train.py"',
                "sagemaker_submit_directory": json.dumps(self.put("code/sourcedir.tar.gz", archive(files))),
                **(hyperparameters or {}),
            },
            "ResourceConfig": {"InstanceType": "ml.m5.large", "InstanceCount": 1, "VolumeSizeInGB": 1},
            "OutputDataConfig": {"S3OutputPath": f"s3://{BUCKET}/out"},
            "StoppingCondition": {"MaxRuntimeInSeconds": 600},
            **{name: value for name, value in more.items() if name[0].isupper()},
        }
        options = {
            "on_phase": self.phases.append,
            "log": self.lines.append,
            **{k: v for k, v in more.items() if not k[0].isupper()},
        }
        return TrainingRun(
            request,
            workspace=self.root / "job",
            objects=self.objects,
            overlays=self.root / "overlays",
            **options,
        )

    def train(
        self, script: str | Mapping[str, str | bytes], hyperparameters: Mapping[str, str] | None = None, **more: Any
    ) -> Outcome:
        """Run such a job to its end. Whatever it did, its directory must be gone."""
        outcome = self.job(script, hyperparameters, **more).run()
        assert not (self.root / "job").exists()
        return outcome

    def wait_for_line(self, start: str) -> str:
        """The first line of output that starts so, as soon as it is there."""
        eventually(lambda: any(line.startswith(start) for line in self.lines), f"a line {start!r} in {self.lines}")
        return next(line for line in self.lines if line.startswith(start))


@contextmanager
def lab_in(root: Path) -> Iterator[Lab]:
    """A :class:`Lab`, closed afterwards."""
    lab = Lab(root)
    yield lab
    lab.objects.close()
