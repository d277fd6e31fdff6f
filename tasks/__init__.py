"""The work itself: plain functions and values. Only `tasks.steps` knows Prefect."""

from __future__ import annotations

import sys
from importlib.util import find_spec, module_from_spec
from threading import RLock
from types import ModuleType
from typing import Any

_LOADING = RLock()


class _DeferredModule(ModuleType):
    """A module that is loaded when an attribute of it is first used.

    `importlib.util.LazyLoader` already loads it at the second `import`.
    """

    def __getattr__(self, name: str) -> Any:  # noqa: ANN401 - of any module
        with _LOADING:
            if self.__spec__ and self.__spec__.loader and not vars(self).get("_loading"):
                vars(self)["_loading"] = True  # while it is loaded, it may use itself
                self.__spec__.loader.exec_module(self)
                self.__class__ = ModuleType  # type: ignore[assignment]
        return ModuleType.__getattribute__(self, name)


def _defer(name: str) -> None:
    """Load a module when it is first used, not when it is first imported."""
    spec = None if name in sys.modules else find_spec(name)
    if spec is not None:
        module = module_from_spec(spec)
        module.__class__ = _DeferredModule
        sys.modules[name] = module


_defer("boto3")  # rasterio imports it even for local files, and it takes longer than a small image
