"""Removes the installers of Python packages, which the final image does not need.

Run by the base image's own Python, as root, in the last stage of the build.
"""

from __future__ import annotations

import os
import shutil
import sys
import sysconfig
from pathlib import Path

PACKAGES = (
    "_distutils_hack",
    "distutils-precedence.pth",
    "ensurepip",
    "pip",
    "pip-*",
    "pkg_resources",
    "setuptools",
    "setuptools-*",
    "wheel",
    "wheel-*",
)


def _installers() -> list[Path]:
    wheels = sysconfig.get_config_var("WHEEL_PKG_DIR")  # wheels of ensurepip on some distributions
    commands = [Path(folder) for folder in os.get_exec_path()]
    return [
        *(found for folder in sys.path for name in PACKAGES for found in Path(folder).glob(name)),
        *(found for folder in commands for found in folder.glob("pip*")),
        *([Path(wheels)] if wheels else []),
    ]


if __name__ == "__main__":
    for installer in _installers():
        if installer.is_dir() and not installer.is_symlink():
            shutil.rmtree(installer)
        else:
            installer.unlink(missing_ok=True)
