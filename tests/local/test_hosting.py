"""A model in a process of its own."""

from __future__ import annotations

import io
import json
import re
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from airflow_sm_git.local.hosting import HostingError, ModelProcess, Reply
from tests.local.jobs import BUCKET, Lab, archive, eventually, gone, lab_in, wheel

JSON = "application/json"
HANDLERS = """
import json, os, time
def model_fn(model_dir):
    print("loaded by", os.getpid())
    return open(os.path.join(model_dir, "weights")).read()
def input_fn(data, content_type):
    return json.loads(data)
def predict_fn(data, model):
    if "raise" in data:
        raise KeyError(data["raise"])
    if "exit" in data:
        os._exit(data["exit"])
    time.sleep(data.get("sleep", 0))
    return {"model": model, "pid": os.getpid(), "hardcoded": open("/opt/ml/model/weights").read()}
def output_fn(prediction, accept):
    return json.dumps(prediction)
"""
Start = Callable[..., ModelProcess]


@pytest.fixture
def lab(tmp_path: Path) -> Iterator[Lab]:
    with lab_in(tmp_path) as made:
        yield made


@pytest.fixture
def start(lab: Lab) -> Iterator[Start]:
    models: list[ModelProcess] = []

    def make(
        files: dict[str, str | bytes] | None = None, data: str | io.BytesIO | None = "", **more: Any
    ) -> ModelProcess:
        if data == "":
            data = archive(files or {"weights": "W", "code/inference.py": HANDLERS})
        uri = lab.put("model.tar.gz", data) if isinstance(data, io.BytesIO) else data
        environment = {name: value for name, value in more.items() if name.isupper()}
        options = {name: value for name, value in more.items() if not name.isupper()}
        models.append(
            ModelProcess.start(
                {"Image": "image", "Environment": environment},
                model_data=uri,
                workspace=lab.root / f"model-{len(models)}",
                objects=lab.objects,
                overlays=lab.root / "overlays",
                log=lab.lines.append,
                **options,
            )
        )
        return models[-1]

    yield make
    for model in models:
        model.stop()
    assert not list(lab.root.glob("model-*"))


def ask(model: ModelProcess, **data: Any) -> Reply:
    return model.invoke(json.dumps(data).encode(), JSON, None)


def test_a_model_is_loaded_and_answers(start: Start) -> None:
    model = start()
    assert model.ping(60)
    reply = ask(model)
    assert (reply.status, reply.content_type) == (200, JSON)
    answer = json.loads(reply.body)
    assert (answer["model"], answer["hardcoded"]) == ("W", "W")


def test_an_exception_is_an_answer_with_the_traceback_in_the_log(start: Start, lab: Lab) -> None:
    model = start()
    reply = ask(model, **{"raise": "nope"})
    assert reply.status == 500
    assert reply.body.startswith(b"'nope'\nTraceback")
    lab.wait_for_line("KeyError: 'nope'")
    assert ask(model).status == 200


def test_several_requests_are_served_at_once_each_by_a_process_of_its_own(start: Start) -> None:
    model = start(SAGEMAKER_MODEL_SERVER_WORKERS="3")
    answers: list[int] = []
    threads = [
        threading.Thread(target=lambda: answers.append(json.loads(ask(model, sleep=1).body)["pid"])) for _ in "abc"
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert len(set(answers)) == 3


def test_a_worker_that_dies_is_an_answer_and_is_replaced(start: Start, lab: Lab) -> None:
    model = start(SAGEMAKER_MODEL_SERVER_WORKERS="1")
    assert ask(model, exit=4).status == 500
    assert ask(model).status == 200
    lab.wait_for_line("A worker ended (exit code 4)")
    assert model.ping()


def test_a_request_that_takes_too_long_ends_its_worker_and_not_the_model(start: Start, lab: Lab) -> None:
    model = start(SAGEMAKER_MODEL_SERVER_WORKERS="1", SAGEMAKER_MODEL_SERVER_TIMEOUT="1")
    assert ask(model, sleep=600).status == 500
    lab.wait_for_line("A request took more than 1 s")
    assert ask(model).status == 200


def test_a_client_does_not_wait_longer_than_sagemaker_does(start: Start) -> None:
    model = start(timeout=1.0)
    assert model.ping(60)
    reply = ask(model, sleep=20)
    assert reply.status == 504
    assert b"timed out" in reply.body


def test_a_model_that_cannot_be_loaded_never_answers_a_ping_and_says_why(start: Start, lab: Lab) -> None:
    model = start({"code/inference.py": "def model_fn(model_dir): raise OSError('no weights here')"})
    assert not model.ping(60)
    eventually(lambda: not model.alive, "the process ends")
    assert lab.wait_for_line("OSError: no weights here")
    assert ask(model).status == 500


def test_a_model_that_loads_too_slowly_fails_the_ping_in_time(start: Start) -> None:
    model = start({"code/inference.py": "import time\ndef model_fn(model_dir): time.sleep(600)"})
    assert not model.ping(0.5)
    assert model.alive


def test_stopping_leaves_no_process_and_no_file(start: Start, lab: Lab) -> None:
    model = start(
        {"weights": "W", "code/inference.py": "import os, signal\nsignal.signal(15, signal.SIG_IGN)\n" + HANDLERS}
    )
    assert model.ping(60)
    worker = psutil.Process(json.loads(ask(model).body)["pid"])
    family = [worker, *worker.parents()[:2]]  # the worker, its supervisor, their guard
    model.stop(grace=0.1)
    assert gone(*(process.pid for process in family))
    assert not model.alive
    assert not model.ping()
    model.stop()


def test_stopping_can_wait_for_the_requests_under_way(start: Start) -> None:
    model = start()
    assert model.ping(60)
    replies: list[Reply] = []
    thread = threading.Thread(target=lambda: replies.append(ask(model, sleep=1)))
    thread.start()
    eventually(lambda: model._in_flight == 1, "the request is under way")
    model.stop(drain=30)
    thread.join(60)
    assert replies[0].status == 200


def test_the_program_is_named_by_a_variable(start: Start) -> None:
    model = start({"weights": "W", "code/serve.py": HANDLERS}, SAGEMAKER_PROGRAM="serve.py")
    assert ask(model).status == 200


def test_code_can_lie_in_s3_beside_the_model(start: Start, lab: Lab) -> None:
    code = lab.put("code.tar.gz", archive({"serve.py": HANDLERS}))
    model = start(
        {"weights": "W", "code/serve.py": "broken("}, SAGEMAKER_PROGRAM="serve.py", SAGEMAKER_SUBMIT_DIRECTORY=code
    )
    assert ask(model).status == 200


def test_a_model_may_be_a_prefix_or_nothing(start: Start, lab: Lab) -> None:
    lab.put("plain/weights", "P")
    lab.put("plain/code/inference.py", HANDLERS)
    assert json.loads(ask(start(data=f"s3://{BUCKET}/plain/")).body)["model"] == "P"
    code = lab.put(
        "code.tar.gz", archive({"inference.py": "def model_fn(d): return 1\ndef predict_fn(d, m): return [m]"})
    )
    assert start(data=None, SAGEMAKER_SUBMIT_DIRECTORY=code).invoke(b"[]", JSON, None).body == b"[1]"


def test_without_a_private_opt_ml_the_model_is_served_from_where_it_lies(start: Start) -> None:
    handlers = "import json\ndef model_fn(model_dir): return model_dir\ndef predict_fn(data, model): return model"
    model = start({"code/inference.py": handlers}, mounts=False)
    assert json.loads(model.invoke(b"[]", JSON, None).body).endswith("/ml/model")


def test_requirements_are_installed_for_the_model(start: Start, lab: Lab) -> None:
    name = wheel(lab.root, "smgitserving", "word = 'installed'")
    handlers = "import smgitserving\ndef model_fn(d): ...\ndef predict_fn(data, model): return smgitserving.word"
    files = {
        "code/inference.py": handlers,
        "code/requirements.txt": f"./{name}",
        f"code/{name}": (lab.root / name).read_bytes(),
    }
    assert start(files).invoke(b"[]", JSON, None).body == b'"installed"'


@pytest.mark.parametrize(
    ("data", "variables", "said"),
    [
        (f"s3://{BUCKET}/missing.tar.gz", {}, r"s3://bucket/missing\.tar\.gz"),
        (io.BytesIO(b"text"), {}, r"s3://bucket/model\.tar\.gz cannot be unpacked"),
        (None, {"SAGEMAKER_SUBMIT_DIRECTORY": "s3://missing/c.tar.gz"}, r"s3://missing/c\.tar\.gz"),
    ],
)
def test_what_cannot_be_brought_in_is_named(start: Start, data: Any, variables: dict[str, str], said: str) -> None:
    with pytest.raises(HostingError, match=said):
        start(data=data, **variables)


def test_requirements_that_fail_are_the_models_failure(start: Start) -> None:
    with pytest.raises(HostingError, match=re.escape("not-there-1.0")):
        start({"code/inference.py": "", "code/requirements.txt": "./not-there-1.0-py3-none-any.whl"})


def test_custom_attributes_go_in_and_come_out(start: Start) -> None:
    handlers = """
    def model_fn(model_dir): return 0
    def predict_fn(data, model, context):
        name = "X-Amzn-SageMaker-Custom-Attributes"
        context.set_response_header(0, name, context.get_request_header(0, name) + "!")
        return 1
    """
    reply = start({"code/inference.py": handlers}).invoke(b"1", JSON, JSON, "hello")
    assert (reply.status, reply.custom_attributes) == (200, "hello!")


def test_large_bodies_go_through_whole(start: Start) -> None:
    handlers = "def model_fn(d): ...\ndef transform_fn(model, data, content_type, accept): return data[::-1]"
    body = bytes(range(256)) * 20_000
    assert start({"code/inference.py": handlers}).invoke(body, "application/octet-stream", None).body == body[::-1]


def test_the_models_own_modules_do_not_clash_with_ours(start: Start) -> None:
    handlers = (
        "import handlers, errors\ndef model_fn(d): return handlers.mine\ndef predict_fn(data, model): return model"
    )
    files = {"code/inference.py": handlers, "code/handlers.py": "mine = 'mine'", "code/errors.py": ""}
    assert start(files).invoke(b"1", JSON, None).body == b'"mine"'
