"""The model's process answers those who know its secret."""

from __future__ import annotations

import json
import os
import socket
import sys
from pathlib import Path

from airflow_sm_git.local import model_server
from airflow_sm_git.local.process import GuardedProcess


def test_only_who_knows_the_secret_is_answered_and_nonsense_does_no_harm(tmp_path: Path) -> None:
    (tmp_path / "code").mkdir()
    handlers = (
        "import os\ndef model_fn(d): ...\ndef predict_fn(d, m): return sorted(n for n in os.environ if 'SECRET' in n)"
    )
    (tmp_path / "code" / "inference.py").write_text(handlers)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        address = listener.getsockname()
        argv = [sys.executable, "-P", model_server.__file__, str(listener.fileno()), str(tmp_path)]
        env = {"PATH": os.environ["PATH"], "PYTHONPATH": str(tmp_path / "code"), model_server.SECRET: "right"}
        process = GuardedProcess.start(argv, env=env, cwd=tmp_path, on_line=print, keep=[listener.fileno()])

    def ask(line: bytes) -> bytes:
        with socket.create_connection(address, 60) as connection, connection.makefile("rb") as stream:
            connection.sendall(line + b"\n[]")
            connection.shutdown(socket.SHUT_WR)
            return stream.read()

    head = {"operation": "invoke", "headers": {"content-type": "application/json"}, "length": 2}
    try:
        assert ask(json.dumps({**head, "secret": "wrong"}).encode()) == b""
        assert ask(json.dumps(head).encode()) == b""
        assert ask(b"GET / HTTP/1.1") == b""
        answer = ask(json.dumps({**head, "secret": "right"}).encode())
        assert json.loads(answer.partition(b"\n")[0])["status"] == 200
        assert answer.endswith(b"\n[]"), "the handlers see the secret"
    finally:
        process.stop(0)
        process.wait(60)
