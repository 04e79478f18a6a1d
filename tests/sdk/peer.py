"""Run a program under the SageMaker SDK's own environment."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tests.peer_environments import peer_python

REQUIREMENTS = ["sagemaker==2.257.7"]
_HERE = Path(__file__).resolve().parent


def run_under_sdk(program: str, argument: object, *, env: Mapping[str, str], home: Path) -> Any:
    """Run a program of this folder; it reads ``argument`` from its input and writes its result to a file, as JSON.

    :param program: its file name.
    :param env: the variables that lead it to a server; of the caller's own it gets PATH alone.
    :param home: an empty directory: where it works, and its HOME.
    """
    python = peer_python("sagemaker-sdk", REQUIREMENTS)
    # Nothing may leave this machine; its telemetry, for one, would go to a fixed host on the internet. Nobody listens
    # on port 9. (The documented way to leave telemetry out, a configuration file, is validated again at every call.)
    offline = {"HTTP_PROXY": "http://127.0.0.1:9", "HTTPS_PROXY": "http://127.0.0.1:9", "NO_PROXY": "127.0.0.1"}
    environment = {
        "PATH": os.environ["PATH"],
        "HOME": str(home),
        "AWS_CONFIG_FILE": os.devnull,
        "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
        "AWS_EC2_METADATA_DISABLED": "true",
        "SAGEMAKER_SUPPRESS_V2_WARNING": "1",
        **offline,
        **env,
    }
    done = subprocess.run(
        [str(python), str(_HERE / program), str(home / "result.json")],
        input=json.dumps(argument),
        env=environment,
        cwd=home,
        umask=0o022,  # git checks files out under it, and the SDK packages their modes
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    said = f"{done.stdout[-8000:]}\n{done.stderr[-8000:]}"
    assert done.returncode == 0, said
    return json.loads((home / "result.json").read_text())
