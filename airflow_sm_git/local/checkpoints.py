"""A job's checkpoint directory, kept equal to its place in S3 while the job runs.

SageMaker developer guide, "Use checkpoints in Amazon SageMaker": what lies under ``S3Uri`` is there when the job
starts, and what the script writes is copied to ``S3Uri`` continuously.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping
from pathlib import Path

from airflow_sm_git.local.errors import ApiError
from airflow_sm_git.local.workspace import DataError, Workspace, files_below, inside, parse_uri, relative_key

DEFAULT_PATH = "/opt/ml/checkpoints"
_INTERVAL = 2.0


class Checkpoints:
    """Synchronises one directory to S3.

    :param config: ``CheckpointConfig``.
    :param workspace: the job's files.
    :raises DataError: the local path is not below ``/opt/ml``, which is all that a job has of its own here.
    """

    def __init__(self, config: Mapping[str, str], workspace: Workspace) -> None:
        local = config.get("LocalPath", DEFAULT_PATH)
        if not local.startswith("/opt/ml/"):
            raise DataError(
                f"ClientError: CheckpointConfig.LocalPath {local!r} must be below /opt/ml in the local SageMaker"
            )
        self._folder = inside(workspace.ml, local.removeprefix("/opt/ml/"))
        self._workspace = workspace
        self._bucket, self._prefix = parse_uri(config["S3Uri"].rstrip("/"))
        self._known: dict[Path, tuple[int, int]] = {}
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._follow, name="checkpoints", daemon=True)

    def restore(self) -> None:
        """Bring in what is in S3, and start following the directory.

        :raises DataError: there is no such bucket.
        """
        self._folder.mkdir(parents=True, exist_ok=True)
        prefix = f"{self._prefix}/" if self._prefix else ""
        try:
            for info in self._workspace.objects.list(self._bucket, prefix):
                if not info.key.endswith("/"):
                    self._workspace.fetch(self._bucket, info.key, inside(self._folder, relative_key(info.key, prefix)))
        except ApiError as error:
            raise DataError(f"ClientError: CheckpointConfig.S3Uri: {error.message}") from error
        self._known = {path: _state(path) for path, _ in files_below(self._folder)}
        self._thread.start()

    def finish(self) -> None:
        """Copy what is left and stop following."""
        self._over.set()
        if self._thread.is_alive():
            self._thread.join()
            self._copy(settled=True)

    def _follow(self) -> None:
        while not self._over.wait(_INTERVAL):
            self._copy(settled=False)

    def _copy(self, *, settled: bool) -> None:
        """Upload what has changed; while the script runs, only files that were the same a moment ago."""
        if self._workspace.leads_out(self._folder):
            return  # the script has put a link in its place: what is there is not ours to upload
        for path, relative in files_below(self._folder):
            try:
                state = _state(path)
                with path.open("rb") as reader:
                    if self._known.get(path) == state:
                        continue
                    key = f"{self._prefix}/{relative}" if self._prefix else relative
                    self._workspace.objects.write(self._bucket, key, reader)
                if settled or _state(path) == state:
                    self._known[path] = state
            except (FileNotFoundError, NotADirectoryError, PermissionError):
                continue  # the script has removed, renamed or closed it meanwhile


def _state(path: Path) -> tuple[int, int]:
    about = path.stat()
    return about.st_mtime_ns, about.st_size
