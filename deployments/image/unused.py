"""Removes parts of Python packages that no process of Swath opens, which are a tenth of the image.

Run by the build, before the packages are copied into the image: what a later layer removes is
stored all the same.
"""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

PARTS = (
    "**/tests",  # of packages, not of Swath
    "onnxruntime/quantization",  # they make and change models
    "onnxruntime/tools",
    "onnxruntime/transformers",
    "pyarrow/include",  # for programs in C++
    "pyarrow/_flight.*",  # a server of tables, with a library of RPC
    "pyarrow/libarrow_flight.*",
    "pyarrow/libarrow_python_flight.*",
    "scipy/cluster",  # nothing but `ndimage` is used, with `special` and `linalg` below it
    "scipy/datasets",
    "scipy/differentiate",
    "scipy/fftpack",
    "scipy/integrate",
    "scipy/interpolate",
    "scipy/io",
    "scipy/odr",
    "scipy/optimize",
    "scipy/signal",
    "scipy/stats",
)
"""What is removed, as patterns below `site-packages`."""


def remove(packages: Path) -> int:
    """Remove the parts; returns how many bytes they took.

    Args:
        packages: The folder `site-packages`.
    """
    freed = 0
    parts = {found for pattern in PARTS for found in packages.glob(pattern)}
    for part in sorted(parts, key=lambda found: len(found.parts), reverse=True):
        files = [part, *part.rglob("*")] if part.is_dir() else [part]
        freed += sum(file.lstat().st_size for file in files if file.is_file())
        if part.is_dir():
            shutil.rmtree(part)
        else:
            part.unlink()
    return freed


if __name__ == "__main__":
    print(f"{remove(Path(sys.argv[1])) / 1e6:.0f} MB that no process opens are removed")
