"""Runs in the SageMaker SDK's environment: a snippet of the documentation. Its result is what the snippet printed."""

import contextlib
import io
import json
import sys

printed = io.StringIO()
with contextlib.redirect_stdout(printed):
    exec(json.load(sys.stdin), {})  # noqa: S102  a snippet of our own documentation
with open(sys.argv[1], "w") as file:
    json.dump(printed.getvalue(), file)
