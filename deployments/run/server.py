"""The Prefect server of `swath run`, if it is to use one."""

from __future__ import annotations

import os
from dataclasses import dataclass

from deployments.prefect_access import PASSWORD, active_profile, why_not
from tasks.errors import StackError

_TIMEOUT = 10.0  # seconds; a busy server may take some


@dataclass(frozen=True)
class Server:
    """A Prefect server.

    Attributes:
        api_url: URL of its API, as in `PREFECT_API_URL`.
        named_by: What names it, for users.
    """

    api_url: str
    named_by: str

    def check(self) -> None:
        """Check that the server serves this client.

        Raises:
            StackError: It does not answer, or asks for a password or a header.
        """
        if reason := why_not(self.api_url, _TIMEOUT):
            raise StackError(
                f"The Prefect server {self.api_url}, named by {self.named_by}, {reason}. "
                "`--no-prefect` runs the image without a server."
            )


def find_server(asked: bool | None) -> Server | None:
    """The Prefect server that a run uses; None for a run without a server.

    Without `--prefect`, only the environment variable PREFECT_API_URL decides. With it, the server
    is the one of that variable, or of the active profile of Prefect, or of a running `swath up`.

    Args:
        asked: True for `--prefect`, False for `--no-prefect`, None if neither is given.

    Raises:
        StackError: `--prefect` is given, and no server is named.
    """
    if asked is False or (asked is None and not os.environ.get("PREFECT_API_URL")):
        return None
    if server := configured_server() or _of_local_stack():
        return server
    raise StackError(
        "--prefect: no Prefect server is named; set PREFECT_API_URL, choose a profile of Prefect "
        "that sets it, or start `swath up`. Without --prefect, the image is run without a server."
    )


def configured_server() -> Server | None:
    """The server of PREFECT_API_URL, or else of the active profile of Prefect."""
    if api_url := os.environ.get("PREFECT_API_URL"):
        return Server(api_url, "PREFECT_API_URL")
    return _of_profile()


def _of_profile() -> Server | None:
    """The server of the active profile; importing Prefect to read it would take seconds."""
    name, profile = active_profile()
    api_url = profile.get("PREFECT_API_URL")
    return Server(api_url, f"the profile {name!r}") if isinstance(api_url, str) else None


def _of_local_stack() -> Server | None:
    from deployments.local.record import running_stack

    if (stack := running_stack()) is None:
        return None
    if password := stack.environment.get(PASSWORD):
        os.environ[PASSWORD] = password
    return Server(stack.api_url, "the running `swath up`")
