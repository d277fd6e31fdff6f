"""The fork server of flow runs: it has imported what a run needs, and forks an engine for each.

Run as `python -m deployments.local.fork_server SOCKET`. The import of Prefect, of the flows and of
the libraries takes most of the time in which a run starts. A forked process has all of that, and
shares the memory of it. A run asks for one by `fork_client.py`, the command of the work pool.

An engine that is forked is as one that was started: it has the environment, the working directory
and the standard streams of its run, and a session of its own. Where it would not be the same, it
executes a new Python instead: with variables that the server was not started with, which libraries
read when they are imported, and after a change of the sources.

The server forks while it runs no other Python code: it never opens an image, a connection or a
library's threads. One that is killed takes its engines with it, as a worker takes its runs.
"""

from __future__ import annotations

import gc
import json
import os
import runpy
import selectors
import signal
import socket
import struct
import sys
import time
import warnings
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from deployments.local.fork_client import ENGINE, FORWARDED, SIZE, STATUS
from deployments.local.guard import die_with_parent, name_process
from deployments.local.preloaded import Preloaded

_REQUEST_TIMEOUT = 5.0  # seconds
_STREAMS = 3
_PAUSE = 0.5  # seconds until a client that could not be accepted is tried again


@dataclass(frozen=True)
class EngineRequest:
    """What a run asks for.

    Attributes:
        environment: All variables of the engine.
        directory: Its working directory.
        streams: Its standard input, output and error, as descriptors of this process.
    """

    environment: Mapping[str, str]
    directory: str
    streams: Sequence[int]


class ForkServer:
    """Forks a process for each request.

    Args:
        path: The socket, for processes of this user only.
    """

    def __init__(self, path: Path) -> None:
        self._selector = selectors.DefaultSelector()
        self._clients: dict[int, socket.socket] = {}  # by the id of the engine's process
        self._listener = _listen(path)
        self._selector.register(self._listener, selectors.EVENT_READ, self._accept)
        self._wakeup, signalled = socket.socketpair()
        for end in (self._wakeup, signalled):
            end.setblocking(False)
        self._signalled = signalled
        signal.set_wakeup_fd(signalled.fileno(), warn_on_full_buffer=False)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        self._selector.register(self._wakeup, selectors.EVENT_READ, self._reap)

    def serve(self) -> EngineRequest:
        """Serve without an end; returns in each process that it forks."""
        while True:
            for key, _ in self._selector.select():
                if request := key.data():
                    return request  # type: ignore[no-any-return]

    def _accept(self) -> EngineRequest | None:
        """Fork an engine for the next client; returns its request in the engine."""
        try:
            connection, _ = self._listener.accept()
        except OSError as error:  # no descriptor is left: this run waits, the others go on
            print(f"No run can be accepted: {error}", file=sys.stderr, flush=True)
            time.sleep(_PAUSE)
            return None
        try:
            request = _read(connection)
        except (OSError, ValueError, TypeError, struct.error):  # it ended, or is none of ours
            connection.close()
            return None
        parent = os.getpid()
        try:
            engine = _fork()
        except OSError as error:  # no memory is left: this run counts as lost, the others go on
            print(f"No process can be forked: {error}", file=sys.stderr)
            engine = None
        if engine == 0:
            die_with_parent(parent)
            self._leave(connection)
            return request
        for stream in request.streams:
            os.close(stream)
        if engine is None:
            connection.close()
            return None
        connection.setblocking(False)
        self._clients[engine] = connection
        self._selector.register(
            connection, selectors.EVENT_READ, lambda: self._obey(engine, connection)
        )
        return None

    def _obey(self, engine: int, connection: socket.socket) -> None:
        """Pass signals of a client on to its engine; kill it if the client has ended."""
        if self._clients.get(engine) is not connection:
            return  # both ended at once, and the engine is reaped already
        try:
            signals = connection.recv(len(FORWARDED))
        except OSError:
            signals = b""
        if not signals:
            self._selector.unregister(connection)
        for number in signals or (signal.SIGKILL,):
            os.kill(engine, number)  # it is not reaped yet, so the id is its own

    def _reap(self) -> None:
        """Tell clients how their engines ended."""
        with suppress(BlockingIOError):
            self._wakeup.recv(4096)
        with suppress(ChildProcessError):
            while (ended := os.waitpid(-1, os.WNOHANG))[0]:
                connection = self._clients.pop(ended[0])
                with suppress(OSError):
                    connection.send(STATUS.pack(os.waitstatus_to_exitcode(ended[1])))
                with suppress(KeyError):  # its client ended before
                    self._selector.unregister(connection)
                connection.close()

    def _leave(self, connection: socket.socket) -> None:
        """Close, in an engine, what is the server's."""
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        self._selector.close()
        for each in (
            self._listener,
            self._wakeup,
            self._signalled,
            connection,
            *self._clients.values(),
        ):
            each.close()


def _fork() -> int:
    """Fork; returns the id of the new process, and 0 in it."""
    with warnings.catch_warnings():
        # of several threads: the other one is that of pyarrow's allocator, which expects forks
        warnings.simplefilter("ignore", DeprecationWarning)
        return os.fork()


def _listen(path: Path) -> socket.socket:
    """A socket for processes of this user, at a path of any length."""
    path.unlink(missing_ok=True)
    os.chdir(path.parent)
    before = os.umask(0o177)
    try:
        listener = socket.socket(socket.AF_UNIX)
        listener.bind(path.name)
    finally:
        os.umask(before)
    listener.listen(128)
    return listener


def _read(connection: socket.socket) -> EngineRequest:
    """Read the request of a client.

    Raises:
        OSError: It ended, or sends nothing.
        ValueError, TypeError, struct.error: What it sends is no request.
    """
    connection.settimeout(_REQUEST_TIMEOUT)
    head, streams, _, _ = socket.recv_fds(connection, SIZE.size, _STREAMS)
    try:
        if len(streams) < _STREAMS:  # this process had no descriptors left for them
            problem = f"{len(streams)} streams came for {_STREAMS}"
            raise ValueError(problem)  # noqa: TRY301 - what came is closed below
        (size,) = SIZE.unpack(head)
        body = b""
        # never more than the request: the signals that follow it are for the engine
        while part := connection.recv(size - len(body)):
            body += part
        return EngineRequest(**json.loads(body), streams=streams)
    except BaseException:
        for stream in streams:
            os.close(stream)
        raise


def engine_name(run: str) -> str:
    """The name of the engine's process, for `ps` and `top`.

    Args:
        run: The id of its flow run.
    """
    return f"swath-{run[:8]}"


def _become_engine(request: EngineRequest, preloaded: Preloaded) -> None:
    """Be the engine of a run, as if it had been started for it."""
    os.setsid()
    for number, stream in enumerate(request.streams):
        os.dup2(stream, number)
        os.close(stream)
    os.chdir(request.directory)
    os.environ.clear()
    os.environ.update(request.environment)
    name_process(engine_name(request.environment.get("PREFECT__FLOW_RUN_ID", "")))
    if not preloaded.serves(request.environment):
        os.execv(sys.executable, [sys.executable, *ENGINE])  # noqa: S606 - no shell is wanted
    os.environ.update(preloaded.added)
    sys.argv, sys.path[0] = ["prefect.engine"], request.directory
    # a module that was imported cannot be run as a program
    sys.modules.pop("prefect.engine")
    runpy.run_module("prefect.engine", run_name="__main__", alter_sys=True)


def main(path: Path) -> None:
    """Import what runs need, then serve.

    Args:
        path: The socket; it exists once the server serves.
    """
    preloaded = Preloaded()
    # the collector writes to each object that it looks at, and a page that is written is copied
    gc.collect()
    gc.freeze()
    _become_engine(ForkServer(path).serve(), preloaded)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
