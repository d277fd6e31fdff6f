"""How options are shown in the help: their groups, and the defaults of a request."""

from __future__ import annotations

from collections.abc import Callable

from cyclopts import Group

MODEL = Group.create_ordered("Model")
IMAGE = Group.create_ordered("Image")
TILES = Group.create_ordered("Tiles")
RASTER = Group.create_ordered("Raster, of a model that answers with pixels")
MERGING = Group.create_ordered("Filter and merge")
RESULTS = Group.create_ordered("Results")


def message_default(
    name: str, *, of_algorithm: bool = False, before: str = ""
) -> Callable[[object], str]:
    """Shows the default of a field of the message in the help of its option."""

    def show(_: object) -> str:
        from tasks.request import Algorithm, Request

        fields = Request.model_fields
        default = getattr(Algorithm(), name) if of_algorithm else fields[name].default
        return f"{before}{default}"

    return show
