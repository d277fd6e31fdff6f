"""The Prefect server that the commands for jobs ask, and the settings that go with it."""

from __future__ import annotations

import os

from rich.console import Console

from deployments.prefect_access import why_not
from deployments.run.server import configured_server
from tasks.errors import StackError
from tasks.settings import settings

_TIMEOUT = 10.0  # seconds; a busy server may take some
_PATIENCE = "2"  # seconds for which a work store that cannot be read is tried: somebody waits
_NONE = (
    "no Prefect server is named: set PREFECT_API_URL, choose a profile of Prefect that sets it, or "
    "start `swath up`, which goes on with the jobs of the last one"
)


def connect() -> str:
    """Use the Prefect server that `swath run --prefect` would use, in this process.

    It is that of PREFECT_API_URL, or of the active profile of Prefect, or of a running `swath up`,
    whose work store and AWS are used too.

    Returns:
        Why there is none to ask; empty if there is.
    """
    from deployments.local.prefect_server import CLIENT_SETTINGS
    from deployments.local.record import running_stack

    stack = None if (server := configured_server()) else running_stack()
    if stack is not None:
        stack.adopt()
    os.environ.setdefault("SWATH_STORAGE_PATIENCE", _PATIENCE)
    settings.cache_clear()
    if server is not None:
        api_url, named_by = server.api_url, server.named_by
    elif stack is not None:
        api_url, named_by = stack.api_url, "the running `swath up`"
    else:
        return _NONE
    if reason := why_not(api_url, _TIMEOUT):
        return f"the Prefect server {api_url}, named by {named_by}, {reason}"
    os.environ["PREFECT_API_URL"] = api_url
    for name, value in CLIENT_SETTINGS.items():
        os.environ.setdefault(name, value)
    return ""


def connect_or_say(console: Console) -> bool:
    """Use the Prefect server, or say that only records are shown; returns whether there is one."""
    if missing := connect():
        console.print(
            f"{missing[0].upper()}{missing[1:]}. What follows is from the records in "
            f"{settings().work_uri}, and not live.",
            soft_wrap=True,
        )
    return not missing


def require_server(why: str) -> None:
    """Use the Prefect server.

    Args:
        why: What it is needed for, as the end of a sentence: "Runs are cancelled in Prefect".

    Raises:
        StackError: There is none to ask.
    """
    if missing := connect():
        raise StackError(f"{why}, and {missing}.")
