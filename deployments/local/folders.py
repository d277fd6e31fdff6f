"""The user's folders for cache and state (XDG Base Directory), which outlive a stack."""

from __future__ import annotations

import os
from pathlib import Path


def cache_folder() -> Path:
    """Folder for files that can be recreated: `$XDG_CACHE_HOME/swath` or `~/.cache/swath`."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "swath"


def state_folder() -> Path:
    """Folder for the running stack.

    It is `$SWATH_STATE_DIR`, or else `$XDG_STATE_HOME/swath`, or else `~/.local/state/swath`.
    """
    if named := os.environ.get("SWATH_STATE_DIR"):
        return Path(named)
    return Path(os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state") / "swath"
