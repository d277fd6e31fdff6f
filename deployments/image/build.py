"""Builds the container image with podman, docker or buildah: `make image`.

It needs only Python, so that an image can be built where Swath's dependencies are not installed.
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
FLAVOURS = ("cpu", "gpu", "http")
_PROJECT = Path(__file__).parents[2]


def find_engine() -> str:
    """The first of podman, docker and buildah that is installed.

    Raises:
        StackError: None of them is installed.
    """
    for name in ENGINES:
        if shutil.which(name):
            return name
    raise StackError(f"None of {', '.join(ENGINES)} is installed; install one to build an image.")


def build(
    *,
    with_engine: str,
    tag: str | None = NAME,
    base: str | None = None,
    flavour: str = "cpu",
    more: Sequence[str] = (),
) -> None:
    """Build the image from this project's `Dockerfile`.

    Args:
        with_engine: One of `ENGINES`.
        tag: Name of the image; None for a build without an image.
        base: Base image with Python; None for the base image that the `Dockerfile` names.
        flavour: One of `FLAVOURS`: gpu runs ONNX models on NVIDIA GPUs, http runs none itself.
        more: Further options of the engine's `build`.

    Raises:
        StackError: The build failed; its output is on standard error.
    """
    arguments = {"VERSION": version(), "REVISION": revision(), "FLAVOUR": flavour}
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
            command.append("--format=docker")  # the OCI format has no HEALTHCHECK
        result = subprocess.run([*command, str(_PROJECT)], check=False)  # noqa: S603
    if result.returncode:
        raise StackError(f"{with_engine} build failed; see its output above.")


def version() -> str:
    """The version of the project."""
    project = tomllib.loads((_PROJECT / "pyproject.toml").read_text(encoding="utf-8"))
    return str(project["project"]["version"])


def revision() -> str:
    """The commit of the working tree, with `-dirty` if it has uncommitted changes."""
    command = ["git", "-C", str(_PROJECT), "describe", "--always", "--exclude=*", "--abbrev=40"]
    try:
        result = subprocess.run([*command, "--dirty"], capture_output=True, text=True, check=False)  # noqa: S603
    except FileNotFoundError:
        return "unknown"
    return result.stdout.strip() or "unknown"


def main() -> int:
    """Build from the options of the command line; return the exit status."""
    parser = argparse.ArgumentParser(
        prog="deployments.image.build",
        description="Build the container image. Further options go to the engine's build.",
    )
    parser.add_argument("--engine", choices=ENGINES, help="default: the first that is installed")
    parser.add_argument("--base", help="base image; give it by digest")
    parser.add_argument("--flavour", choices=FLAVOURS, default="cpu", help="default: cpu")
    parser.add_argument(
        "--sbom", metavar="FOLDER", help="only write sbom.cdx.json and licenses.txt to the folder"
    )
    options, more = parser.parse_known_args()
    if options.sbom:
        more += ["--target=sbom", f"--output=type=local,dest={options.sbom}"]
    try:
        chosen = options.engine or find_engine()
        tag = NAME if options.flavour == "cpu" else f"{NAME}:{options.flavour}"
        build(
            with_engine=chosen,
            tag=None if options.sbom else tag,
            base=options.base,
            flavour=options.flavour,
            more=more,
        )
    except StackError as error:
        print(f"swath: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
