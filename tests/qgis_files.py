"""Files as QGIS opens them, in the Python that has QGIS."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from tests.pages import ROOT

PYTHON = "/usr/bin/python3"  # of the distribution, whose packages QGIS for Python is one of
OFFSCREEN = os.environ | {"QT_QPA_PLATFORM": "offscreen"}


@cache
def has_qgis() -> bool:
    if not Path(PYTHON).exists():
        return False
    tried = subprocess.run(
        [PYTHON, "-c", "import qgis.core"], check=False, capture_output=True, env=OFFSCREEN
    )
    return tried.returncode == 0


@dataclass(frozen=True)
class Opened:
    """A file as QGIS opened it.

    Attributes:
        about: What QGIS says of it.
        picture: uint8 (height, width, 4) red, green, blue and alpha as QGIS draws it.
    """

    about: Mapping[str, Any]
    picture: NDArray[np.uint8]


def in_qgis(folder: Path, paths: Sequence[Path]) -> list[Opened]:
    """Open files in QGIS, without settings of a user."""
    home = {"HOME": str(folder), "XDG_RUNTIME_DIR": str(folder)}
    done = subprocess.run(
        [PYTHON, ROOT / "tests" / "qgis_layers.py", folder, *paths],
        stdout=subprocess.PIPE, text=True, check=True, env=OFFSCREEN | home,
    )  # fmt: skip
    found = []
    for number, about in enumerate(json.loads(done.stdout)):
        with Image.open(folder / f"{number}.png") as picture:
            found.append(Opened(about, np.array(picture.convert("RGBA"))))
    return found
