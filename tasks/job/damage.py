"""Work on an image that is done again if what is kept of it turns out to be damaged."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import TypeVar

from tasks.errors import DamagedStoreError

logger = logging.getLogger(__name__)

_Result = TypeVar("_Result")


def despite_damage(work: Callable[[], _Result], again: Callable[[], _Result]) -> _Result:
    """The result of some work or, if kept objects are damaged, of other work without them.

    Args:
        work: Reads what is kept; what is damaged is removed then.
        again: Makes what was removed anew, as far as it may ask the model, and does the work.

    Raises:
        DamagedStoreError: More was damaged meanwhile.
    """
    try:
        return work()
    except DamagedStoreError as error:
        logger.warning("%s", error)
        return again()
