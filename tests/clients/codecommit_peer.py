"""The URLs that the real git-remote-codecommit makes; run in an environment of its own.

Standard input: a JSON list of objects with ``url``, ``time`` and ``environment``. Standard output: a JSON list of URLs.
"""

from __future__ import annotations

import json
import os
import sys

import git_remote_codecommit  # type: ignore[import-not-found, unused-ignore]
from freezegun import freeze_time  # type: ignore[import-not-found, unused-ignore]


def signed(case: dict[str, object]) -> str:
    """What git would be run on."""
    url = str(case["url"])
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        del os.environ[name]
    os.environ.update(case["environment"])  # type: ignore[call-overload]
    with freeze_time(str(case["time"])):
        # Of codecommit::REGION://NAME git hands on what follows the double colon (gitremote-helpers(7)).
        context = git_remote_codecommit.Context.from_url(url.removeprefix("codecommit::"))
        return str(
            git_remote_codecommit.git_url(context.repository, context.version, context.region, context.credentials)
        )


if __name__ == "__main__":
    json.dump([signed(case) for case in json.load(sys.stdin)], sys.stdout)
