"""The option for a model that answers about whole tiles, as a field of a request."""

from __future__ import annotations

from typing import Any

from deployments.run.words import json_object


def tile_output(text: str | None) -> dict[str, Any]:
    """The field of the message for --tile-output: WORD, WORD:SIZE, or a JSON object.

    Args:
        text: Its value; None if it is not given.

    Raises:
        RequestError: The object is not well-formed.
    """
    if text is None:
        return {}
    if text.strip().startswith("{"):
        example = '{"values": "embedding", "size": 768}'
        return {"tileOutput": json_object("--tile-output", text, word="logits", example=example)}
    word, colon, size = text.strip().partition(":")
    return {"tileOutput": {"values": word} | ({"size": size} if colon else {})}
