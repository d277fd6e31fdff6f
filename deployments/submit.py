"""`swath submit`: send a request to the queue, and wait for its outcome if asked to."""

from __future__ import annotations

import os
import shlex
import sys
from pathlib import Path
from urllib.parse import quote

from rich.console import Console

from deployments.local.record import running_stack
from deployments.prefect_access import why_not
from deployments.run.server import Server, configured_server
from tasks.errors import RequestError, StackError

_TIMEOUT = 10.0  # seconds; a busy server may take some


def submit(path: Path, console: Console, *, wait: bool = False) -> int:
    """Validate a request and send it to the queue; return the exit status.

    Args:
        path: File with the message; `-` for standard input.
        console: Where to print the outcome.
        wait: Whether to wait until all images have ended; the exit status is that of the worst.

    Raises:
        RequestError: The message is not valid; it is not sent.
        StackError: No queue is set, and no local stack is running; or no Prefect server, to wait.
    """
    stack = None
    if "SWATH_QUEUE_URL" not in os.environ:
        stack = running_stack()
        if stack is None:
            raise StackError(
                "There is no queue to send to: set SWATH_QUEUE_URL, or start `swath up`."
            )
        stack.adopt()
    server = _server() if wait else None

    from tasks.queue.sqs import send
    from tasks.request import Request

    try:
        body = sys.stdin.read() if str(path) == "-" else path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise RequestError(f"{path}: the file cannot be read: {error}") from error
    request = Request.parse(body)
    message_id = send(os.environ["SWATH_QUEUE_URL"], body)
    job, number = request.job_id, len(request.image_urls)
    images = "1 image" if number == 1 else f"{number} images"
    console.print(f"{job}: {images} on the queue, message {message_id}", soft_wrap=True)
    if stack is not None:
        at = f"{stack.ui_url}/runs?tag={quote(f'job:{job}', safe='')}"
        command = f"swath status {shlex.quote(job)} --watch"
        console.print(f"Once received, follow it at {at} or with: {command}", soft_wrap=True)
    if server is None:
        return 0

    from deployments.run.command import EXIT
    from deployments.wait import wait_for_images

    return EXIT[wait_for_images(request, message_id, console)]


def _server() -> Server:
    """The Prefect server on which the sensor of the queue creates the runs.

    Raises:
        StackError: None is named, or it does not answer.
    """
    server = configured_server()
    if server is None:
        raise StackError(
            "--wait: the outcome is read from Prefect, and no server is named; set PREFECT_API_URL "
            "to the server of the queue's sensor. Nothing was sent."
        )
    if reason := why_not(server.api_url, _TIMEOUT):
        raise StackError(
            f"--wait: the Prefect server {server.api_url}, named by {server.named_by}, {reason}. "
            "Nothing was sent."
        )
    os.environ["PREFECT_API_URL"] = server.api_url
    return server
