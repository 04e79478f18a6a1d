"""How the demo hears of each step: an Airflow plugin whose listener appends a JSON line per change to a file.

It lies in the demo's own ``AIRFLOW_HOME`` only, and does nothing unless the demo names the file.
"""

from __future__ import annotations

import json
import os
import time
from pathlib import Path
from typing import Any

VARIABLE = "SM_GIT_DEMO_EVENTS"


def tell(event: dict[str, Any]) -> None:
    """Append an event, with the time in seconds since 1970, to the file that the demo reads."""
    if path := os.environ.get(VARIABLE):
        with Path(path).open("a") as file:
            file.write(json.dumps({"time": time.time(), **event}) + "\n")
