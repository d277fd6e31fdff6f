"""Filters of the runs page of Prefect's UI: jobs, without the runs of sensors and regions."""

from __future__ import annotations

import logging
from urllib.parse import urlencode

import httpx

logger = logging.getLogger(__name__)

JOBS = {"tag": ["image"]}
"""Selects the runs of images, by the query of the page's address."""

INCOMPLETE_JOBS = JOBS | {"state": ["Partial", "Failed", "Crashed"]}
"""Selects those that ended without SUCCESS."""

_NAMES = {"Jobs": JOBS, "Jobs without success": INCOMPLETE_JOBS}
_WEEK = {"type": "span", "seconds": -7 * 86_400}


def address(ui_url: str, query: dict[str, list[str]]) -> str:
    """The address of the runs page with a filter."""
    return f"{ui_url}/runs?{urlencode(query, doseq=True)}"


def save_filters(api_url: str) -> None:
    """Save both filters on a server, where the page's menu of saved filters offers them.

    An error is logged: the filters only spare users some clicks.

    Args:
        api_url: Address of the Prefect server's API.
    """
    from prefect import get_client
    from prefect.settings import PREFECT_API_URL, temporary_settings

    # not a client of the address alone, which has neither the server's key nor its password
    with temporary_settings({PREFECT_API_URL: api_url}), get_client(sync_client=True) as client:
        for name, query in _NAMES.items():
            values = query | {"range": _WEEK}
            filters = [
                {"object": "flowRun", "property": key, "type": "", "operation": "", "value": value}
                for key, value in values.items()
            ]
            try:  # one of the same name is replaced
                client.request("PUT", "/saved_searches/", json={"name": name, "filters": filters})
            except httpx.HTTPError as error:
                logger.warning("The filter %r was not saved in Prefect: %r", name, error)
