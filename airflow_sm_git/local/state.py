"""Where one local SageMaker keeps what must outlive its process: one directory, private to its user."""

from __future__ import annotations

import json
import os
from dataclasses import asdict, dataclass
from pathlib import Path

ACCOUNT = "000000000000"
REGION = "us-east-1"
_MARKER = ".airflow-sm-git-local"


class NotOurDirectory(ValueError):
    """The directory holds something else; using (or deleting) it would do harm."""


@dataclass(frozen=True)
class Info:
    """How to reach a server, and which process it is.

    :param started: the process's start time in seconds since the epoch, because a pid alone is used again.
    :param faults: whether it makes faults on demand.
    """

    port: int
    pid: int
    started: float
    url: str
    access_key_id: str
    secret_access_key: str
    region: str = REGION
    account: str = ACCOUNT
    faults: bool = False


@dataclass(frozen=True)
class State:
    """Paths below the state directory of one local SageMaker.

    :param root: the directory. It need not exist before :meth:`create`.
    """

    root: Path

    @property
    def s3(self) -> Path:
        """Objects and their index."""
        return self.root / "s3"

    @property
    def jobs(self) -> Path:
        """One directory for each training job that runs."""
        return self.root / "jobs"

    @property
    def endpoints(self) -> Path:
        """One directory for each model process."""
        return self.root / "endpoints"

    @property
    def overlays(self) -> Path:
        """Environments made from ``requirements.txt``, by hash."""
        return self.root / "overlays"

    @property
    def database(self) -> Path:
        """SageMaker's resources (SQLite)."""
        return self.root / "sagemaker.sqlite"

    @property
    def log_database(self) -> Path:
        """CloudWatch Logs' events (SQLite)."""
        return self.root / "logs.sqlite"

    @property
    def roles(self) -> Path:
        """Names of the IAM roles that exist, one a line."""
        return self.root / "roles.txt"

    @property
    def log(self) -> Path:
        """What the server itself prints."""
        return self.root / "server.log"

    @property
    def requests(self) -> Path:
        """Every request, one JSON line each."""
        return self.root / "requests.log"

    @property
    def info(self) -> Path:
        """The last server's :class:`Info`; readable by its user only, because it holds the secret key."""
        return self.root / "info.json"

    @property
    def lock(self) -> Path:
        """The file that a running server holds locked."""
        return self.root / "server.lock"

    @property
    def marker(self) -> Path:
        """The file that says that this directory is ours to delete."""
        return self.root / _MARKER

    def create(self) -> State:
        """Make the directory (mode 0700) and its marker, unless they are there.

        :raises NotOurDirectory: it exists, holds files, and was not made by us.
        """
        if self.root.is_dir() and not self.marker.exists() and any(self.root.iterdir()):
            raise NotOurDirectory(f"{self.root} holds files that are not a local SageMaker's. Name another directory.")
        self.root.mkdir(parents=True, exist_ok=True)
        self.root.chmod(0o700)
        self.marker.write_text("The state of a local SageMaker. `airflow-sm-git local reset` deletes it.\n")
        return self

    def load_info(self) -> Info | None:
        """The last server's coordinates, or None where no server ever ran (or its file is not readable as such)."""
        try:
            return Info(**json.loads(self.info.read_text()))
        except (FileNotFoundError, ValueError, TypeError):
            return None

    def write_info(self, info: Info) -> None:
        """Replace the coordinates in one step: a reader sees the old ones or the new ones."""
        part = self.info.with_suffix(f".{os.getpid()}.part")
        descriptor = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(descriptor, "w") as file:
            json.dump(asdict(info), file, indent=1)
        part.replace(self.info)
