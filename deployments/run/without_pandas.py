"""pyarrow without pandas, which it imports at its first array if pandas is installed.

That takes longer than a tile, and the command uses none of its tables. It is installed with the
Python interface.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from importlib.abc import MetaPathFinder
from types import ModuleType


class _NoPandas(MetaPathFinder):
    """Refuses to find pandas."""

    def find_spec(
        self,
        fullname: str,
        path: Sequence[str] | None,  # noqa: ARG002 - of the interface
        target: ModuleType | None = None,  # noqa: ARG002
    ) -> None:
        """Raise ImportError for pandas; None for every other module."""
        if fullname == "pandas":
            raise ImportError(fullname)


def leave_pandas_out() -> None:
    """Have pyarrow look for pandas now, and not find it, unless it is loaded already."""
    import pyarrow as pa

    finder = _NoPandas()
    sys.meta_path.insert(0, finder)
    try:
        pa.array([])
    finally:
        sys.meta_path.remove(finder)
