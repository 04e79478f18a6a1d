"""What a training script's output tells: metrics, and why it failed."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping, Sequence

from airflow_sm_git.local.metrics import Metric, MetricSearch

REASON_LIMIT = 1024
"""Characters of FailureReason (SageMaker API reference, DescribeTrainingJob)."""
_TAIL_LINES, _TAIL_WITHOUT_TRACEBACK = 300, 12
_TRACEBACK = "Traceback (most recent call last):"


class JobOutput:
    """Reads a job's output line by line. Fed from one thread; may be read from others.

    :param definitions: ``MetricDefinitions``: ``Name`` and ``Regex``, whose first group is the value.
    :param say: called with a line for the job's log when an expression takes too long, from any thread.
    :raises ValueError: a regular expression is broken.
    """

    def __init__(
        self, definitions: Sequence[Mapping[str, str]] = (), say: Callable[[str], None] = lambda _: None
    ) -> None:
        self._search = MetricSearch(definitions, say)
        self._tail: deque[str] = deque(maxlen=_TAIL_LINES)

    @property
    def metrics(self) -> list[Metric]:
        """What was found so far; all of it once :meth:`finish` has returned."""
        return list(self._search.found)

    def feed(self, line: str) -> None:
        """Take one line."""
        self._tail.append(line)
        self._search.feed(line)

    def finish(self) -> None:
        """There are no more lines: wait for the metrics of the last ones, for a limited time."""
        self._search.finish()

    def error_message(self) -> str:
        """The last traceback and what follows it; without one, the last lines."""
        lines = list(self._tail)
        starts = [index for index, line in enumerate(lines) if line.startswith(_TRACEBACK)]
        return "\n".join(lines[starts[-1] :] if starts else lines[-_TAIL_WITHOUT_TRACEBACK:])


def failure_reason(name: str, code: int, message: str, command: str, signal: int | None = None) -> str:
    """FailureReason in the form that sagemaker-training (``errors._CalledProcessError``) and SageMaker give it.

    SageMaker keeps the first 1,024 characters, which loses the exception; we cut the command's end and the message's
    beginning instead.

    :param name: class of the error, for instance ``ExecuteUserScriptError``.
    :param code: exit code of the script.
    :param message: its last words.
    :param command: the command line.
    :param signal: signal that ended the script, if one did.
    """
    if len(command) > 300:
        command = command[:299] + "…"
    extra = ""
    if signal:
        extra = f'\nExtraInfo "{"OutOfMemory: " if signal == 9 else ""}Process killed by signal {signal}"'
    start, end = f'{name}:\nExitCode {code}\nErrorMessage "', f'"{extra}\nCommand "{command}"'
    room = REASON_LIMIT - len(algorithm_error(start + end, 1))
    if len(message) > room:
        message = "…" + message[len(message) - room + 1 :]
    return start + message + end


def algorithm_error(text: str, code: int) -> str:
    """FailureReason of a container that ended with ``code`` and left ``text`` in ``/opt/ml/output/failure``.

    The form is that of AWS's own messages: ``AlgorithmError: …, exit code: 1``.
    """
    frame = "AlgorithmError: {}, exit code: " + str(code)
    return frame.format(text[: REASON_LIMIT - len(frame) + 2])
