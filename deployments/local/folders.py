"""Folders of the user's that outlive a stack: the cache and the state (XDG Base Directory)."""

from __future__ import annotations

import os
from pathlib import Path


def cache_folder() -> Path:
    """Folder for what can be made again: `$XDG_CACHE_HOME/swath`, else `~/.cache/swath`."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "swath"


def state_folder() -> Path:
    """Folder for what is running: `$SWATH_STATE_DIR`, or `swath` in `$XDG_STATE_HOME`."""
    if named := os.environ.get("SWATH_STATE_DIR"):
        return Path(named)
    return Path(os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state") / "swath"
