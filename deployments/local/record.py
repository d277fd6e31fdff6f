"""The record of the running stack, for the commands that use it from another terminal."""

from __future__ import annotations

import fcntl
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
from pydantic import BaseModel, ConfigDict, ValidationError

from deployments.local.folders import state_folder
from deployments.local.process import inherited_environment
from tasks.errors import StackError

_LONGEST_END = 20.0  # seconds in which the processes of a stack that ends have ended


class StackRecord(BaseModel):
    """The addresses of a running stack.

    Attributes:
        pid: Id of the process that runs the stack.
        started: Start of that process, in seconds since the epoch; detects a reused pid.
        folder: Folder with the stack's logs and Prefect home.
        ui_url: URL of the Prefect UI.
        api_url: URL of the Prefect API.
        queue_url: SQS queue of requests.
        dead_letter_url: SQS dead-letter queue of requests.
        status_queue_url: SQS queue with a copy of every status message.
        image_bucket: S3 bucket for images.
        result_bucket: S3 bucket for results.
        environment: Variables of a process that uses the stack.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    pid: int
    started: float
    folder: Path
    ui_url: str
    api_url: str
    queue_url: str
    dead_letter_url: str
    status_queue_url: str
    image_bucket: str
    result_bucket: str
    environment: dict[str, str]

    def adopt(self) -> None:
        """Set this process's environment to use the stack, and no other AWS or Prefect."""
        adopted = inherited_environment() | self.environment
        os.environ.clear()
        os.environ.update(adopted)


def running_stack() -> StackRecord | None:
    """The record of this user's running stack; None if its process does not run."""
    try:
        record = StackRecord.model_validate_json(_path().read_bytes())
        process = psutil.Process(record.pid)
        if process.create_time() == record.started and process.status() != psutil.STATUS_ZOMBIE:
            return record
    except (FileNotFoundError, ValidationError, psutil.NoSuchProcess):
        pass
    return None


@contextmanager
def stack_lock(progress: Callable[[str], None] = lambda _: None) -> Iterator[int]:
    """Hold the lock that allows one stack for each user, and remove its record at the end.

    Args:
        progress: Is called with a line if another stack has to end first.

    Yields:
        The descriptor of the locked file. Whoever inherits it holds the lock too: so the processes
        of a stack that is ending, or was killed, have ended before the next one starts.

    Raises:
        StackError: Another stack is running, or starting.
    """
    state_folder().mkdir(parents=True, exist_ok=True)
    with (state_folder() / "stack.lock").open("w") as lock:
        _acquire(lock.fileno(), progress)
        try:
            yield lock.fileno()
        finally:
            remove_record()


def _acquire(lock: int, progress: Callable[[str], None]) -> None:
    """Acquire the lock, waiting unless its stack has a record: it ends, or its process has."""
    deadline, said = time.monotonic() + _LONGEST_END, False
    while True:
        try:
            return fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if running_stack() is not None or time.monotonic() > deadline:
                raise StackError(_already_running()) from None
        if not said:
            progress(f"Another stack starts or ends: waiting for it, {_LONGEST_END:.0f} s at most")
            said = True
        time.sleep(0.1)


def write_record(record: StackRecord) -> None:
    """Write the record of the running stack, atomically; within a block of `stack_lock`.

    Args:
        record: The stack's record.
    """
    part = _path().with_suffix(".part")
    part.touch(mode=0o600)
    part.write_text(record.model_dump_json(indent=2))
    part.replace(_path())


def remove_record() -> None:
    """Remove the record of a stack that ends, so that no other command uses it any more."""
    _path().unlink(missing_ok=True)


def _path() -> Path:
    return state_folder() / "stack.json"


def _already_running() -> str:
    record = running_stack()
    if record is None:
        return (
            f"Another stack is starting, or has not ended in {_LONGEST_END:.0f} s: wait for it, or "
            f"stop it in its terminal. Its folder is below {state_folder()}."
        )
    return (
        f"A stack is already running: process {record.pid}, UI {record.ui_url}, "
        f"folder {record.folder}. Use it, or stop it with Ctrl-C in its terminal or "
        f"`kill {record.pid}`."
    )
