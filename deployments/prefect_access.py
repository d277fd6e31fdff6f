"""Calls of a Prefect server's API without Prefect, whose import takes seconds: whether it answers.

A server may be behind a password, or behind a proxy that asks for a header. Prefect's own clients
send both by themselves; these calls read the same settings.
"""

from __future__ import annotations

import base64
import json
import os
import tomllib
from collections.abc import Mapping
from http import HTTPStatus
from pathlib import Path
from typing import TYPE_CHECKING

from tasks.errors import StackError

if TYPE_CHECKING:
    import httpx

PASSWORD = "PREFECT_API_AUTH_STRING"  # noqa: S105 - the name of the setting
_KEY = "PREFECT_API_KEY"
_HEADERS = "PREFECT_CLIENT_CUSTOM_HEADERS"
_REMEDY = (
    f"set {PASSWORD} to the server's password, or {_KEY} to a key of Prefect Cloud; if a proxy "
    f"before the server asks for a header, name it in {_HEADERS}"
)
_START = "start it, or name another one in PREFECT_API_URL"
REFUSED = (HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN, HTTPStatus.PROXY_AUTHENTICATION_REQUIRED)
"""The status codes of a server or proxy to which a client is not known."""


def active_profile() -> tuple[str, Mapping[str, object]]:
    """The name and the settings of the active profile of Prefect; empty if there is none."""
    home = Path(os.environ.get("PREFECT_HOME") or "~/.prefect").expanduser()
    path = Path(os.environ.get("PREFECT_PROFILES_PATH") or home / "profiles.toml")
    try:
        profiles = tomllib.loads(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, tomllib.TOMLDecodeError):
        return "", {}
    active = str(os.environ.get("PREFECT_PROFILE") or profiles.get("active"))
    return active, profiles.get("profiles", {}).get(active, {})


def access_headers(variables: Mapping[str, str] | None = None) -> dict[str, str]:
    """The headers by which a Prefect server, and a proxy before it, know this client.

    Args:
        variables: Settings of Prefect by name; None for those of the environment and, for what
            is not there, of the active profile.

    Raises:
        StackError: The custom headers are not a JSON object of texts.
    """
    found: Mapping[str, object] = variables if variables is not None else _settings()
    headers = _custom_headers(found.get(_HEADERS))
    if password := found.get(PASSWORD):
        token = base64.b64encode(str(password).encode()).decode()
        headers["Authorization"] = f"Basic {token}"
    elif key := found.get(_KEY):
        headers["Authorization"] = f"Bearer {key}"
    return headers


def reachable(api_url: str, timeout: float = 2.0) -> bool:
    """Whether a Prefect server answers, whatever password it asks for.

    Args:
        api_url: URL of its API, as in `PREFECT_API_URL`.
        timeout: Seconds to wait for each of connection and answer.
    """
    answer = _ask("GET", api_url, "health", timeout)
    return answer is not None and answer.is_success


def why_not(api_url: str, timeout: float) -> str:
    """Why a Prefect server does not serve this client, with the remedy: the end of a sentence.

    Args:
        api_url: URL of its API, as in `PREFECT_API_URL`.
        timeout: Seconds to wait for each of connection and answer.

    Returns:
        Empty if it does.
    """
    for method, path in (("GET", "health"), ("POST", "work_pools/filter")):
        # /health needs no password, but a header where a proxy asks for one
        answer = _ask(method, api_url, path, timeout)
        if answer is None:
            return f"does not answer: {_START}"
        if answer.is_redirect or answer.status_code in REFUSED:
            return refused(answer.status_code)
        if path == "health" and not answer.is_success:
            return f"answers with status {answer.status_code}: {_START}"
    return ""


def refused(status: int) -> str:
    """What to do about a refused call, as the end of a sentence that names the server."""
    return f"refused a call with status {status}: {_REMEDY}"


def _ask(method: str, api_url: str, path: str, timeout: float) -> httpx.Response | None:
    """An answer of the server; None if there is none."""
    import httpx

    content = b'{"limit": 1}' if method == "POST" else None
    headers = access_headers() | ({"Content-Type": "application/json"} if content else {})
    url = f"{api_url.rstrip('/')}/{path}"
    try:
        return httpx.request(method, url, content=content, headers=headers, timeout=timeout)
    except (httpx.HTTPError, httpx.InvalidURL):
        return None


def _settings() -> Mapping[str, object]:
    names = (PASSWORD, _KEY, _HEADERS)
    given = {name: os.environ[name] for name in names if os.environ.get(name)}
    return dict(active_profile()[1]) | given


def _custom_headers(value: object) -> dict[str, str]:
    """The custom headers of a setting, which is JSON, or a table in a profile."""
    if not value:
        return {}
    try:
        headers = json.loads(value) if isinstance(value, str) else value
    except json.JSONDecodeError:
        headers = None
    if not isinstance(headers, dict) or not all(isinstance(one, str) for one in headers.values()):
        raise StackError(  # without its value, which is a secret
            f'{_HEADERS} is not a JSON object of texts: write it as {{"X-Header": "value"}}.'
        )
    return {str(name): one for name, one in headers.items()}
