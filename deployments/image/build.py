"""Builds the container image with podman, docker or buildah: `make image`.

Needs nothing but Python, so that an image can be built where Swath itself is not set up.
"""

from __future__ import annotations

import argparse
import shutil
import subprocess
import sys
import tempfile
import tomllib
from collections.abc import Sequence
from pathlib import Path

from deployments.image import host
from tasks.errors import StackError

ENGINES = ("podman", "docker", "buildah")
NAME = "swath"
_PROJECT = Path(__file__).parents[2]


def engine() -> str:
    """The first of podman, docker and buildah that is installed.

    Raises:
        StackError: None is.
    """
    for name in ENGINES:
        if shutil.which(name):
            return name
    raise StackError(f"None of {', '.join(ENGINES)} is installed; install one to build an image.")


def build(
    *, with_engine: str, tag: str | None = NAME, base: str | None = None, more: Sequence[str] = ()
) -> None:
    """Build the image from this project's `Dockerfile`.

    Args:
        with_engine: One of `ENGINES`.
        tag: Name of the image; None if what is built is none.
        base: Image with Python 3.11 or 3.12 to build upon; that of the `Dockerfile` if left out.
        more: Options for the engine's `build`.

    Raises:
        StackError: The build failed; what it said stands on standard error.
    """
    arguments = {"VERSION": _version(), "REVISION": _revision()}
    if base:
        arguments["BASE_IMAGE"] = base
    with tempfile.TemporaryDirectory(prefix="swath-") as folder:
        secrets = host.secrets(host.pip_settings(), Path(folder))
        command = [
            with_engine,
            "build",
            *([f"--tag={tag}"] if tag else []),
            *(f"--build-arg={name}={value}" for name, value in arguments.items()),
            *(f"--secret=id={name},src={path}" for name, path in secrets.items()),
            *more,
        ]
        if with_engine != "docker":
            command.append("--format=docker")  # that of OCI has no HEALTHCHECK
        done = subprocess.run([*command, str(_PROJECT)], check=False)  # noqa: S603
    if done.returncode:
        raise StackError(f"{with_engine} build failed; what it said stands above.")


def _version() -> str:
    project = tomllib.loads((_PROJECT / "pyproject.toml").read_text(encoding="utf-8"))
    return str(project["project"]["version"])


def _revision() -> str:
    """The commit that the image is built from, marked if there is more in it than committed."""
    asked = ["git", "-C", str(_PROJECT), "describe", "--always", "--exclude=*", "--abbrev=40"]
    try:
        said = subprocess.run([*asked, "--dirty"], capture_output=True, text=True, check=False)  # noqa: S603
    except FileNotFoundError:
        return "unknown"
    return said.stdout.strip() or "unknown"


def main() -> int:
    """Build as the command line says; returns the exit status."""
    parser = argparse.ArgumentParser(
        prog="deployments.image.build",
        description="Build the container image. Further options go to the engine's build.",
    )
    parser.add_argument("--engine", choices=ENGINES, help="the first that is installed")
    parser.add_argument("--base", help="image to build upon; give it by digest")
    parser.add_argument("--sbom", metavar="FOLDER", help="only write sbom.cdx.json there")
    typed, more = parser.parse_known_args()
    if typed.sbom:
        more += ["--target=sbom", f"--output=type=local,dest={typed.sbom}"]
    try:
        chosen = typed.engine or engine()
        build(with_engine=chosen, tag=None if typed.sbom else NAME, base=typed.base, more=more)
    except StackError as error:
        print(f"swath: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
