"""What a Prefect server, or a proxy in front of it, may answer instead of what was asked for."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import httpx
import pytest

Fault = Callable[[httpx.Request], httpx.Response | None]
"""The answer to a request in place of the server's; None to let the server answer."""


@contextmanager
def prefect_answers(fault: Fault) -> Iterator[None]:
    """While it is open, every request of this process's Prefect clients goes to `fault` first."""
    send, send_async = httpx.Client.send, httpx.AsyncClient.send

    async def faulty_async(
        client: httpx.AsyncClient, request: httpx.Request, **options: Any
    ) -> httpx.Response:
        answer = fault(request) if "/api/" in request.url.path else None
        if answer is None:
            return await send_async(client, request, **options)
        answer.request = request
        return answer

    def faulty(client: httpx.Client, request: httpx.Request, **options: Any) -> httpx.Response:
        answer = fault(request) if "/api/" in request.url.path else None
        if answer is None:
            return send(client, request, **options)
        answer.request = request
        return answer

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(httpx.Client, "send", faulty)
        patch.setattr(httpx.AsyncClient, "send", faulty_async)
        yield


def refusal(status: int) -> httpx.Response:
    """An answer of Prefect's own with a status; to be tried again at once, if at all."""
    return httpx.Response(status, headers={"Retry-After": "0"}, json={"detail": f"it is {status}"})


def page(status: int = 200) -> httpx.Response:
    """A page of a proxy, of a firewall or of a login; to be asked for again at once, if at all."""
    headers = {"Retry-After": "0"}
    return httpx.Response(status, headers=headers, html="<html>Sign in to go on</html>")
