"""The option for a model that answers about whole tiles, as a field of a request."""

from __future__ import annotations

import json
from typing import Any

from tasks.errors import RequestError


def tile_output(text: str | None) -> dict[str, Any]:
    """The field of the message for --tile-output: WORD, WORD:SIZE, or a JSON object.

    Args:
        text: Its value; None if it is not given.

    Raises:
        RequestError: The object is not well-formed.
    """
    if text is None:
        return {}
    if not text.strip().startswith("{"):
        word, colon, size = text.strip().partition(":")
        return {"tileOutput": {"values": word} | ({"size": size} if colon else {})}
    try:
        return {"tileOutput": json.loads(text)}
    except ValueError as error:
        raise RequestError(
            f"--tile-output: {text!r:.100} is no JSON object ({error}); give logits, or an object "
            'such as \'{"values": "embedding", "size": 768}\'.'
        ) from error
