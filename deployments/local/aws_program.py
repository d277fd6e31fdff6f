"""The emulator ministack, whose queues, topics and buckets are on disk before it answers.

By itself it writes objects of S3 when they are put, but all else only when it ends properly: a
message that it accepted would be lost if it was killed. And it reads a whole object for each range
of it; here the object's file is mapped into memory instead.
"""

# ruff: noqa: SLF001 - ministack has no public names for its state

from __future__ import annotations

import asyncio
import mmap
from collections.abc import Awaitable, Callable, MutableMapping
from pathlib import Path
from typing import Any

import orjson
from ministack import app as emulator
from ministack.core import persistence
from ministack.services import s3, sqs

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
Application = Callable[[Message, Receive, Send], Awaitable[None]]

_READS = {"GET", "HEAD"}

_send_response = emulator._send_response
_restore_queues = sqs.load_persisted_state


class StateFiles:
    """The files from which the emulator restores its services when it starts."""

    def __init__(self) -> None:
        self._saved: dict[str, bytes] = {}
        self._next: asyncio.Task[None] | None = None

    async def save(self) -> None:
        """Return when all changes before this call are on disk; calls at the same time share it."""
        if self._next is None:
            self._next = asyncio.create_task(self._save())
        await asyncio.shield(self._next)

    async def _save(self) -> None:
        self._next = None
        services = emulator._build_persistence_save_dict()
        services["sqs"] = _queues  # without the copy of every message
        for service, state in services.items():
            content = _serialized(service, state())
            if content != self._saved.get(service):
                self._write(service, content)

    def _write(self, service: str, content: bytes) -> None:
        """Write the file of a service, atomically."""
        path = Path(persistence.STATE_DIR) / f"{service}.json"
        path.parent.mkdir(parents=True, exist_ok=True)
        part = path.with_suffix(".part")
        part.write_bytes(content)
        part.replace(path)
        self._saved[service] = content


def _queues() -> dict[str, object]:
    """The state of SQS, which nothing changes before it is serialized."""
    return {"queues": sqs._queues, "queue_name_to_url": sqs._queue_name_to_url}


def _serialized(service: str, state: object) -> bytes:
    """The content of a service's file; as that of `persistence.save_state`, but faster."""
    version = persistence._state_format_version(service)
    content = {"__ministack_format__": version, "payload": state}
    return orjson.dumps(content, persistence._json_default, orjson.OPT_NON_STR_KEYS)


def _writes_state(scope: Message) -> bool:
    """Whether a request may change what `StateFiles` holds; an object of S3 has its own file."""
    if scope["type"] != "http" or scope["method"] in _READS:
        return False
    signed = next((value for name, value in scope["headers"] if name == b"authorization"), b"")
    return not (b"/s3/aws4_request" in signed and scope["path"].strip("/").count("/"))


def restore_queues(state: dict[str, Any]) -> None:
    """Restore the queues, under URLs with the port of this emulator; the last one's may differ."""
    _restore_queues(state)
    for (account, region, url), queue in list(sqs._queues.all_items()):
        here = sqs._queue_url_for_account(account, queue["name"])
        if here != url:
            sqs._queues._data[account, region, here] = queue | {"url": here}
            del sqs._queues._data[account, region, url]
    sqs._rebuild_queue_name_index()


def saved_before_answer(application: Application) -> Application:
    """Wrap an ASGI application so that its state is saved before each answer to a write."""
    files = StateFiles()

    async def saving(scope: Message, receive: Receive, send: Send) -> None:
        async def send_saved(message: Message) -> None:
            if message["type"] == "http.response.start":
                await files.save()
            await send(message)

        await application(scope, receive, send_saved if _writes_state(scope) else send)

    return saving


def read_mapped(bucket: str, key: str, record: dict[str, Any]) -> bytes | mmap.mmap:
    """The body of an object: its bytes if they are in memory, or else its file, mapped."""
    if (body := record.get("body")) is not None:
        return bytes(body)
    with Path(s3._object_disk_path(bucket, key)).open("rb") as file:
        try:
            return mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        except ValueError:  # an empty file cannot be mapped
            return b""


async def send_mapped(
    send: Send, status: int, headers: dict[str, Any], body: object, *, head: bool = False
) -> None:
    """Send a response, the body of which may be a mapped file."""
    whole = bytes(body) if isinstance(body, mmap.mmap) else body
    await _send_response(send, status, headers, whole, head=head)


if __name__ == "__main__":
    s3._read_body = read_mapped
    sqs.load_persisted_state = restore_queues
    emulator._send_response = send_mapped
    emulator.app = saved_before_answer(emulator.app)
    emulator.main()
