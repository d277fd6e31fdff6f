"""`swath submit`: send a request to the queue."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from urllib.parse import quote

from rich.console import Console

from deployments.local.record import running_stack
from tasks.errors import RequestError, StackError


def submit(path: Path, console: Console) -> int:
    """Validate a request and send it to the queue; return the exit status.

    Args:
        path: File with the message; `-` for standard input.
        console: Where to print the outcome.

    Raises:
        RequestError: The message is not valid; it is not sent.
        StackError: No queue is set, and no local stack is running.
    """
    stack = None
    if "SWATH_QUEUE_URL" not in os.environ:
        stack = running_stack()
        if stack is None:
            raise StackError(
                "There is no queue to send to: set SWATH_QUEUE_URL, or start `swath up`."
            )
        stack.adopt()

    from tasks.queue.sqs import send
    from tasks.request import Request

    try:
        body = sys.stdin.read() if str(path) == "-" else path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise RequestError(f"{path}: the file cannot be read: {error}") from error
    request = Request.parse(body)
    message_id = send(os.environ["SWATH_QUEUE_URL"], body)
    console.print(
        f"{request.job_id}: {len(request.image_urls)} image(s) on the queue, message {message_id}",
        soft_wrap=True,
    )
    if stack is not None:
        tag = quote(f"job:{request.job_id}", safe="")
        console.print(f"Follow it at {stack.ui_url}/runs?tag={tag}", soft_wrap=True)
    return 0
