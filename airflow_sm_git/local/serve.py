"""The server process: its lock, its port, its keys, its end."""

from __future__ import annotations

import errno
import fcntl
import logging
import os
import secrets
import signal
import socket
import sys
import threading
import time
from pathlib import Path
from typing import TextIO

import psutil
import uvicorn

from airflow_sm_git.local import daemon
from airflow_sm_git.local.state import ACCOUNT, REGION, Info, State

HOST = "127.0.0.1"
_LOG_LIMIT = 10 << 20
_GRACE = 3
_OWNER_CHECK = 1.0
_log = logging.getLogger(__name__)


class _Server(uvicorn.Server):
    """Tells a descriptor when the first request may come."""

    def __init__(self, config: uvicorn.Config, ready: int) -> None:
        super().__init__(config)
        self._ready = ready

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        if self._ready >= 0 and self.started:
            os.write(self._ready, b"ready\n")
            os.close(self._ready)


def run(root: Path, port: int, ready: int = -1, owner: int | None = None, faults: bool = False) -> int:
    """Serve until told to stop.

    :param port: the port on 127.0.0.1; 0 for any free one.
    :param ready: a descriptor to which ``ready`` is written once requests are answered; or -1.
    :param owner: id of a process without which this one shall not go on; None: it goes on until told to stop.
    :param faults: make faults on demand.
    :returns: 0, or 1 when another server holds the directory or the port, or the owner is gone already; the reason is
        on the standard error.
    """
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    if owner is not None and not _watch(owner):
        print(f"The process {owner}, for which this server is to be, is gone.", file=sys.stderr)
        return 1
    state = State(root.resolve()).create()
    lock = _lock(state)
    if lock is None:
        print(f"Another server already works in {state.root}.", file=sys.stderr)
        return 1
    # asyncio turns Nagle off (40 ms for every answer) only where the protocol is named.
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((HOST, port))
    except OSError as error:
        reason = "is taken by another program" if error.errno == errno.EADDRINUSE else f"cannot be used: {error}"
        print(f"Port {port} on {HOST} {reason}. Free it, or choose another one with --port.", file=sys.stderr)
        return 1
    state.write_info(_info(state, listener.getsockname()[1], faults))
    _rotate(state.requests)
    from airflow_sm_git.local.app import build

    config = uvicorn.Config(
        build(state),
        loop="asyncio",
        lifespan="on",
        access_log=False,
        log_config=None,
        log_level="warning",
        server_header=False,
        timeout_graceful_shutdown=_GRACE,
        timeout_keep_alive=60,
        ws="none",
    )
    server = _Server(config, ready)
    server.run([listener])
    lock.close()
    return 0 if server.started else 1


def _watch(owner: int) -> bool:
    """End this process when ``owner`` has ended; False if it has already."""
    try:
        process = psutil.Process(owner)  # knows its start: another process of the same id is not taken for it
    except psutil.NoSuchProcess:
        return False

    def watch() -> None:
        while daemon.alive(process):
            time.sleep(_OWNER_CHECK)
        _log.info("The process %s, for which this server was, has ended.", owner)
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(daemon.STOP_TIMEOUT)
        os.kill(os.getpid(), signal.SIGKILL)

    threading.Thread(target=watch, name="owner", daemon=True).start()
    return True


def _lock(state: State) -> TextIO | None:
    """The lock that only one server of a directory can hold; it ends with the process, however that ends."""
    file = state.lock.open("w")
    # Who asks whether a server runs (``daemon``) holds the lock for a moment.
    deadline = time.monotonic() + 1
    while True:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() > deadline:
                file.close()
                return None
            time.sleep(0.01)
        else:
            return file


def _info(state: State, port: int, faults: bool) -> Info:
    """This process's coordinates; keys, region and account are the earlier server's, so that connections stay valid."""
    old = state.load_info()
    return Info(
        port=port,
        pid=os.getpid(),
        started=psutil.Process().create_time(),
        url=f"http://{HOST}:{port}",
        access_key_id=old.access_key_id if old else "SMGITLOCAL" + secrets.token_hex(5).upper(),
        secret_access_key=old.secret_access_key if old else secrets.token_urlsafe(30),
        region=old.region if old else REGION,
        account=old.account if old else ACCOUNT,
        faults=faults,
    )


def _rotate(log: Path) -> None:
    if log.exists() and log.stat().st_size > _LOG_LIMIT:
        log.replace(log.with_suffix(".1"))
