"""The same job under our runner and sagemaker-training, the same handlers under ours and sagemaker-inference.

Both peers live in environments of their own, built with uv on first use (see ``tests/peer_environments.py``).
"""

from __future__ import annotations

import base64
import io
import json
import os
import shutil
import subprocess
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy
import pytest

from airflow_sm_git.local import contract
from airflow_sm_git.local.handlers import CSV, JSON, NPY
from airflow_sm_git.local.hosting import ModelProcess
from tests.local.jobs import BUCKET, Lab, archive, lab_in
from tests.peer_environments import peer_python

pytestmark = pytest.mark.slow

TRAINING = ["sagemaker-training==5.1.4", "setuptools<81"]
INFERENCE = ["sagemaker-inference==1.10.1"]
NOT_OURS = {"SM_STUDIO_LOCAL_MODE"}
"""Set to make the toolkit run outside Docker; AWS's containers do not have it."""
DUMP = """
import json, os, sys
print("dump", json.dumps({"argv": sys.argv, "cwd": os.getcwd(), "env": dict(os.environ)}), flush=True)
"""
HYPERPARAMETERS = {
    "epochs": "3",
    "lr": "1e-3",
    "x": "-1",
    "flag": "true",
    "off": "false",
    "none": "null",
    "list": '["a", 1, 2.5, null]',
    "dict": '{"b": {"c": [1]}, "a": "x"}',
    "text": '"it\'s \\"quoted\\" $HOME `x` \\\\ ü"',
    "raw": "not json",
    "empty": '""',
    "model-dir": '"/opt/ml/model"',
    "UPPER": "1",
    "sagemaker_container_log_level": "20",
    "sagemaker_job_name": '"job"',
    "sagemaker_region": '"eu-west-1"',
    "sagemaker_mpi_enabled": "false",
    "sagemaker_custom": '{"k": 1}',
}


@pytest.fixture
def lab(tmp_path: Path) -> Iterator[Lab]:
    with lab_in(tmp_path) as made:
        yield made


def toolkit_run(base: Path, request: dict[str, Any], files: dict[str, str]) -> subprocess.CompletedProcess[str]:
    """The job under sagemaker-training, in a directory of its own."""
    python = peer_python("sagemaker-training", TRAINING)
    for folder in ("code", "input/config", "input/data/training", "model", "output/data"):
        (base / folder).mkdir(parents=True)
    for name, text in files.items():
        (base / "code" / name).write_text(text)
    for name, content in contract.config_files(request).items():
        (base / "input" / "config" / name).write_text(json.dumps(content))
    environment = {
        "PATH": f"{python.parent}{os.pathsep}{os.environ['PATH']}",
        "HOME": str(base),
        "SAGEMAKER_BASE_DIR": str(base),
        "SM_STUDIO_LOCAL_MODE": "true",
        "TRAINING_JOB_NAME": request["TrainingJobName"],
    }
    train = [str(python.parent / "train")]
    return subprocess.run(train, env=environment, cwd=base, capture_output=True, text=True, check=False, timeout=120)


def dumped(lines: list[str], base: str) -> dict[str, Any]:
    """What the script saw, with its ``/opt/ml`` called so."""
    text = next(line for line in lines if line.startswith("dump ")).removeprefix("dump ")
    found: dict[str, Any] = json.loads(text.replace(base, "/opt/ml"))
    return found


def test_arguments_directory_and_all_variables_are_those_of_sagemaker_training(lab: Lab) -> None:
    inputs = [
        {
            "ChannelName": name,
            "ContentType": "text/plain",
            "DataSource": {"S3DataSource": {"S3DataType": "S3Prefix", "S3Uri": lab.put(f"data/{name}/x", "x")}},
        }
        for name in ("training", "my-validation")
    ]
    # On AWS the module lies in S3; the toolkit would fetch it, so here it is told that it is in place already.
    submitted = {"sagemaker_submit_directory": '"/opt/ml/code"'}
    job = lab.job(DUMP, HYPERPARAMETERS, InputDataConfig=inputs, region="eu-west-1")
    assert job.run().status == "Completed", lab.lines
    ours = dumped(lab.lines, str(lab.root / "job" / "ml"))

    base = lab.root / "toolkit"
    request = {**job._request, "HyperParameters": {**job._request["HyperParameters"], **submitted}}
    request = json.loads(json.dumps(request).replace("/opt/ml", str(base)))
    done = toolkit_run(base, request, {"train.py": DUMP})
    assert done.returncode == 0, done.stdout + done.stderr
    theirs = dumped(done.stdout.splitlines(), str(base))

    assert ours["argv"] == theirs["argv"]
    assert ours["cwd"] == theirs["cwd"]
    expected = {name: value for name, value in theirs["env"].items() if name.startswith("SM_") and name not in NOT_OURS}
    got = {name: value for name, value in ours["env"].items() if name.startswith("SM_")}
    module = f"s3://{BUCKET}/code/sourcedir.tar.gz"
    for found in (expected, got):  # the one difference, by construction
        found["SM_MODULE_DIR"] = found["SM_MODULE_DIR"].replace(module, "/opt/ml/code")
        found["SM_TRAINING_ENV"] = json.loads(found["SM_TRAINING_ENV"].replace(module, "/opt/ml/code"))
    assert got == expected
    assert len(got) >= 42
    for name in ("CURRENT_HOST", "SAGEMAKER_JOB_NAME", "SAGEMAKER_REGION", "TRAINING_JOB_NAME"):
        assert ours["env"][name] == theirs["env"][name]
    assert ours["env"]["PYTHONPATH"].split(":")[0] == theirs["env"]["PYTHONPATH"].split(":")[0] == "/opt/ml/code"


def test_a_shell_entry_point_gets_the_same_arguments(lab: Lab) -> None:
    script = '#!/bin/sh\nfor argument in "$@"; do printf "argument <%s>\\n" "$argument"; done\n'
    hyperparameters = {**HYPERPARAMETERS, "sagemaker_program": '"run.sh"'}
    job = lab.job({"run.sh": script}, hyperparameters)
    assert job.run().status == "Completed", lab.lines
    request = {
        **job._request["HyperParameters"],
        "sagemaker_submit_directory": json.dumps(str(lab.root / "toolkit/code")),
    }
    done = toolkit_run(lab.root / "toolkit", {**job._request, "HyperParameters": request}, {"run.sh": script})
    assert done.returncode == 0, done.stdout + done.stderr
    theirs = [line for line in done.stdout.splitlines() if line.startswith("argument")]
    assert [line for line in lab.lines if line.startswith("argument")] == theirs
    assert len(theirs) == 2 * (len(HYPERPARAMETERS) - 5)


def test_the_failure_has_the_form_of_sagemaker_trainings_failure_file(lab: Lab) -> None:
    script = "raise SystemExit(7)"
    job = lab.job(script, {"epochs": "3"})
    reason = job.run().failure_reason or ""
    request = {
        **job._request["HyperParameters"],
        "sagemaker_submit_directory": json.dumps(str(lab.root / "toolkit/code")),
    }
    done = toolkit_run(lab.root / "toolkit", {**job._request, "HyperParameters": request}, {"train.py": script})
    assert done.returncode == 1
    theirs = (lab.root / "toolkit" / "output" / "failure").read_text().splitlines()
    ours = reason.removeprefix("AlgorithmError: ").removesuffix(", exit code: 1").splitlines()
    assert ours[:3] == theirs[:3] == ["ExecuteUserScriptError:", "ExitCode 7", 'ErrorMessage ""']
    assert ours[3].partition(" -- ")[2] == theirs[3].partition(" -- ")[2] == 'train.py --epochs 3"'


def test_the_entry_points_that_sagemaker_training_refuses_are_those_we_refuse(tmp_path: Path) -> None:
    names = ["train.py", "../train.py", "-m", "a//b.py", "/train.py", "./train.py", "$(x).py", "a/b.py", "a/../b.py"]
    names += [".hidden.py", "+x.py", "a/+x", "ü.py", "a b.py", "", "train", "a/"]
    script = """
    import sys
    from sagemaker_training import errors, process
    for name in sys.argv[1:]:
        try:
            process.validate_entry_point(name)
            print("accepted")
        except errors.ClientError:
            print("refused")
    """
    command = [str(peer_python("sagemaker-training", TRAINING)), "-c", textwrap.dedent(script), *names]
    env = {"SAGEMAKER_BASE_DIR": str(tmp_path)}
    theirs = subprocess.run(command, capture_output=True, text=True, env=env, check=True).stdout.split()
    assert dict(zip(names, theirs, strict=True)) == {name: verdict(name) for name in names}
    assert set(theirs) == {"accepted", "refused"}


def verdict(name: str) -> str:
    try:
        contract.check_entry_point(name)
    except contract.ContractError:
        return "refused"
    return "accepted"


# Serving

REFERENCE = """
import base64, json, sys
from sagemaker_inference.transformer import Transformer

class Processor:
    def __init__(self, headers): self.headers, self.answer, self.status = headers, {}, 200
    def get_request_properties(self): return self.headers
    def get_request_property(self, key): return self.headers.get(key)

class Context:
    def __init__(self, model_dir): self.system_properties = {"model_dir": model_dir}
    def get_request_header(self, idx, key): return self.request_processor[idx].headers.get(key)
    def set_response_content_type(self, idx, value): self.request_processor[idx].answer["content-type"] = value
    def set_response_status(self, code=200, phrase="", idx=0): self.request_processor[idx].status = code

context = Context(sys.argv[1])
transformer = Transformer()
transformer.validate_and_initialize(model_dir=sys.argv[1], context=context)
for request in json.load(sys.stdin):
    headers = {k: v for k, v in (("Content-Type", request["content_type"]), ("Accept", request["accept"])) if v}
    context.request_processor = [Processor(headers)]
    answer = transformer.transform([{"body": base64.b64decode(request["body"])}], context)[0]
    processor = context.request_processor[0]
    if not isinstance(answer, (bytes, str)):
        answer = json.dumps(answer, indent=2)
    body = base64.b64encode(answer if isinstance(answer, bytes) else answer.encode()).decode()
    content_type = processor.answer.get("content-type")
    print("answer", json.dumps({"status": processor.status, "content_type": content_type, "body": body}))
"""
DEFAULTS = """
def model_fn(model_dir): return "m"
def predict_fn(data, model): return data
"""
WHOLE = """
import json
def model_fn(model_dir, context): return context.system_properties["model_dir"][-8:]
def input_fn(data, content_type): return [type(data).__name__, str(data), content_type]
def predict_fn(data, model, context): return [*data, model, context.get_request_header(0, "Accept")]
def output_fn(prediction, accept):
    return (json.dumps(prediction + [accept]), "text/own") if accept == "pair" else prediction
"""
TRANSFORM = """
def model_fn(model_dir): return 1
def transform_fn(model, data, content_type, accept, context):
    if data in ("raise", b"raise"): raise RuntimeError("on purpose")
    return repr([model, data, content_type, accept])
"""
WRONG = """
def model_fn(model_dir): return 1
def predict_fn(data): return data
"""


def npy(value: object) -> bytes:
    buffer = io.BytesIO()
    numpy.save(buffer, numpy.array(value))
    return buffer.getvalue()


REQUESTS: list[tuple[bytes, str | None, str | None]] = [
    (body, content_type, accept)
    for body, content_type in (
        (b"[[1, 2.5], [3, 4]]", JSON),
        (b'{"a": [1, "x", null]}', JSON),
        (b'"\xc3\xbc"', JSON),
        (b"not json", JSON),
        (b"1,2\n3,4", CSV),
        (b"a,b\nc,d", CSV),
        (npy([[1, 2], [3, 4]]), NPY),
        (b"raise", "text/plain"),
        (b"[1]", f"{JSON}; charset=utf-8"),
        (b"\xff", "application/octet-stream"),
        (b"", None),
    )
    for accept in (None, "*/*", JSON, CSV, NPY, "text/html, text/csv", "application/xml", "pair")
]


@pytest.mark.parametrize(
    "handlers", [DEFAULTS, WHOLE, TRANSFORM, WRONG], ids=["defaults", "whole", "transform", "wrong"]
)
def test_answers_are_those_of_sagemaker_inference(lab: Lab, handlers: str) -> None:
    theirs = reference(lab.root, handlers)
    model = ModelProcess.start(
        {"Environment": {"SAGEMAKER_PROGRAM": "serve.py"}},
        model_data=lab.put("model.tar.gz", archive({"code/serve.py": handlers})),
        workspace=lab.root / "work",
        objects=lab.objects,
        overlays=lab.root / "overlays",
        log=lab.lines.append,
    )
    try:
        assert model.ping(60), lab.lines
        for request, expected in zip(REQUESTS, theirs, strict=True):
            reply = model.invoke(*request)
            body = base64.b64decode(expected["body"])
            assert reply.status == expected["status"], (request, reply.body)
            if reply.status == 200:
                assert (reply.content_type, reply.body) == (expected["content_type"], body), request
            else:  # the traceback goes through other files
                assert first_line(reply.body) == first_line(body), request
    finally:
        model.stop()


def first_line(body: bytes) -> bytes:
    return body.partition(b"\n")[0]


def reference(root: Path, handlers: str) -> list[dict[str, Any]]:
    """What sagemaker-inference's Transformer answers."""
    python = peer_python("sagemaker-inference", INFERENCE)
    code = root / "reference" / "ml" / "model" / "code"
    code.mkdir(parents=True)
    (code / "serve.py").write_text(textwrap.dedent(handlers))
    (root / "reference.py").write_text(REFERENCE)
    asked = [{"body": base64.b64encode(b).decode(), "content_type": c, "accept": a} for b, c, a in REQUESTS]
    command = [str(python), str(root / "reference.py"), str(code.parent)]
    env = {"PATH": os.environ["PATH"], "PYTHONPATH": str(code), "SAGEMAKER_PROGRAM": "serve.py"}
    done = subprocess.run(command, input=json.dumps(asked), env=env, capture_output=True, text=True, check=False)
    shutil.rmtree(root / "reference")
    assert done.returncode == 0, done.stderr
    lines = [line.removeprefix("answer ") for line in done.stdout.splitlines() if line.startswith("answer ")]
    return [json.loads(line) for line in lines]
