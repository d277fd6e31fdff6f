"""The record of the running stack, for the commands that use it from another terminal."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
from pydantic import BaseModel, ConfigDict, ValidationError

from deployments.local.folders import state_folder
from deployments.local.process import inherited_environment
from tasks.errors import StackError


class StackRecord(BaseModel):
    """Where a running stack's parts are.

    Attributes:
        pid: Process that holds the stack.
        started: When that process started, in seconds since the epoch; tells a reused pid.
        folder: Folder with the stack's logs and Prefect home.
        ui_url: Address of the Prefect UI.
        api_url: Address of the Prefect API.
        queue_url: SQS queue of requests.
        dead_letter_url: SQS queue of what could not be honoured.
        status_queue_url: SQS queue with a copy of every status message.
        image_bucket: S3 bucket for images.
        result_bucket: S3 bucket for results.
        environment: Variables that a user of the stack needs.
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
        """Make this process a user of the stack: its environment, and no other AWS or Prefect."""
        own = inherited_environment() | self.environment
        os.environ.clear()
        os.environ.update(own)


def running_stack() -> StackRecord | None:
    """The stack that is up, or None; one whose process has ended does not count."""
    try:
        record = StackRecord.model_validate_json(_path().read_bytes())
        if psutil.Process(record.pid).create_time() == record.started:
            return record
    except (FileNotFoundError, ValidationError, psutil.NoSuchProcess):
        pass
    return None


@contextmanager
def stack_lock() -> Iterator[None]:
    """Be the only stack of this user while the block lasts.

    Raises:
        StackError: Another one is up, or coming up.
    """
    state_folder().mkdir(parents=True, exist_ok=True)
    with (state_folder() / "stack.lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise StackError(_already()) from None
        try:
            yield
        finally:
            _path().unlink(missing_ok=True)


def write_record(record: StackRecord) -> None:
    """Make a stack known as the running one, whole or not at all.

    Args:
        record: The stack's record, in a block of `stack_lock`.
    """
    part = _path().with_suffix(".part")
    part.touch(mode=0o600)
    part.write_text(record.model_dump_json(indent=2))
    part.replace(_path())


def _path() -> Path:
    return state_folder() / "stack.json"


def _already() -> str:
    record = running_stack()
    if record is None:
        return "Another stack is just coming up: wait for it, or stop it in its terminal."
    return (
        f"A stack is already up: process {record.pid}, UI {record.ui_url}, folder {record.folder}. "
        f"Use it, or stop it with Ctrl-C in its terminal or `kill {record.pid}`."
    )
