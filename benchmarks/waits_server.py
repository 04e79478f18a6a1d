"""A stub of SageMaker for the waits: many training jobs, few calls, every one counted. A program of its own.

It lists a page of at most 100, newest first, as the API does (SageMaker API reference, ListTrainingJobs).
"""

from __future__ import annotations

import json
import random
import sys
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator, MutableMapping
from dataclasses import dataclass
from math import inf
from typing import Any

import uvicorn

PAGE = 100
Message = MutableMapping[str, Any]
ENDED = "Completed"


@dataclass
class Job:
    """A training job; it ends by itself when its time has come.

    :param hidden: "" for none; "time": its end does not show in LastModifiedTime; "all": nor in the listed status.
    """

    name: str
    created: float
    ends: float = inf
    hidden: str = ""

    def status(self, now: float) -> str:
        return ENDED if now >= self.ends else "InProgress"

    def listed(self, now: float) -> dict[str, Any]:
        """Its entry in a listing."""
        ended = now >= self.ends
        return {
            "TrainingJobName": self.name,
            "TrainingJobArn": f"arn:aws:sagemaker:us-east-1:000000000000:training-job/{self.name}",
            "CreationTime": self.created,
            "LastModifiedTime": self.ends if ended and not self.hidden else self.created,
            "TrainingJobStatus": "InProgress" if self.hidden == "all" else self.status(now),
        }

    def described(self, now: float) -> dict[str, Any]:
        """The answer to DescribeTrainingJob."""
        ended = now >= self.ends
        return {
            **self.listed(now),
            "TrainingJobStatus": self.status(now),
            "SecondaryStatus": ENDED if ended else "Training",
            "ModelArtifacts": {"S3ModelArtifacts": f"s3://bucket/{self.name}/output/model.tar.gz"},
            "HyperParameters": {"sagemaker_program": '"train.py"', "sagemaker_job_name": json.dumps(self.name)},
            "RoleArn": "arn:aws:iam::000000000000:role/sagemaker",
            "ResourceConfig": {"InstanceType": "ml.m5.xlarge", "InstanceCount": 1, "VolumeSizeInGB": 30},
            "StoppingCondition": {"MaxRuntimeInSeconds": 86400},
        }


class Stub:
    """The jobs, and what was asked about them."""

    def __init__(self) -> None:
        self.jobs: dict[str, Job] = {}
        self.calls: list[tuple[float, str]] = []
        self.described: Counter[str] = Counter()

    def list_training_jobs(self, request: dict[str, Any], now: float) -> dict[str, Any]:
        since = float(request.get("LastModifiedTimeAfter", 0))
        status = request.get("StatusEquals")
        found = [job for job in self._listed(now) if job["LastModifiedTime"] > since]
        found = [job for job in found if status in (None, job["TrainingJobStatus"])]
        found.sort(key=lambda job: job["CreationTime"], reverse=True)
        start = int(request.get("NextToken", 0))
        end = start + min(PAGE, int(request.get("MaxResults", 10)))
        more = {"NextToken": str(end)} if end < len(found) else {}
        return {"TrainingJobSummaries": found[start:end], **more}

    def _listed(self, now: float) -> Iterator[dict[str, Any]]:
        return (job.listed(now) for job in self.jobs.values())

    def describe_training_job(self, request: dict[str, Any], now: float) -> dict[str, Any]:
        name = request["TrainingJobName"]
        self.described[name] += 1
        return self.jobs[name].described(now)

    def control(self, request: dict[str, Any]) -> dict[str, Any]:
        """What the benchmark asks: ``create``, ``finish`` or ``counts``."""
        now = time.time()
        if request["do"] == "create":
            for number in range(request["count"]):
                name = f"waits-{number:05}"
                self.jobs[name] = Job(name, now - request["age"] + number * 1e-3)
        elif request["do"] == "finish":
            names = request.get("names") or list(self.jobs)
            for name in names:
                job = self.jobs[name]
                job.ends = now + random.uniform(0, request["over"])  # noqa: S311  no secret
                job.hidden = request.get("hidden", "")
        return {
            "calls": [[at, name] for at, name in self.calls if at >= request.get("since", inf)],
            "described": dict(self.described),
            "ends": {job.name: job.ends for job in self.jobs.values() if job.ends < inf},
        }

    def answer(self, target: str, request: dict[str, Any]) -> tuple[int, dict[str, Any]]:
        """Answer one request."""
        if not target:
            return 200, self.control(request)
        operation, now = target.rpartition(".")[2], time.time()
        self.calls.append((now, operation))
        if operation == "ListTrainingJobs":
            return 200, self.list_training_jobs(request, now)
        if operation == "DescribeLogStreams":
            return 200, {"logStreams": [{"logStreamName": f"{request['logStreamNamePrefix']}algo-1-1"}]}
        if operation == "GetLogEvents":
            return 200, {"events": [], "nextForwardToken": "f/1", "nextBackwardToken": "b/1"}
        if operation == "DescribeTrainingJob" and request["TrainingJobName"] in self.jobs:
            return 200, self.describe_training_job(request, now)
        return 400, {"__type": "ValidationException", "message": f"{operation}: not known here"}

    async def __call__(
        self, scope: Message, receive: Callable[[], Awaitable[Message]], send: Callable[[Message], Awaitable[None]]
    ) -> None:
        """The stub as an ASGI application."""
        body, more = b"", True
        while more:
            message = await receive()
            body, more = body + message.get("body", b""), message.get("more_body", False)
        headers = dict(scope["headers"])
        status, answer = self.answer(headers.get(b"x-amz-target", b"").decode(), json.loads(body or b"{}"))
        kind = (b"content-type", b"application/x-amz-json-1.1")
        text = json.dumps(answer).encode()
        length = (b"content-length", str(len(text)).encode())
        await send({"type": "http.response.start", "status": status, "headers": [kind, length]})
        await send({"type": "http.response.body", "body": text})


def main() -> None:
    """Serve on a port of the caller's choice until killed."""
    # Waits poll every five seconds: uvicorn's own five would have it close connections just as they are used again.
    uvicorn.run(
        Stub(),
        host="127.0.0.1",
        port=int(sys.argv[1]),
        log_level="warning",
        access_log=False,
        lifespan="off",
        timeout_keep_alive=120,
    )


if __name__ == "__main__":
    main()
