"""Containers for tests, from Debian's own packages: podman with crun, on a base of debootstrap."""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
import tempfile
from pathlib import Path

import pytest

TOOLS = ("podman", "crun", "debootstrap")
BUILD = (
    "--isolation=chroot",  # needs no namespace but that of mounts
    "--network=host",
    "--layers=false",  # a gigabyte is packed once, not at every step
)
CONFINED = (
    "--rm",
    "--read-only",
    "--read-only-tmpfs=false",
    "--tmpfs=/tmp",
    "--cap-drop=all",
    "--security-opt=no-new-privileges",
    "--network=none",
    "--no-healthcheck",  # podman has systemd run it
    "--cgroups=disabled",
    "--ulimit=nofile=1024:4096",  # those of podman are higher than some machines let it set
    "--ulimit=nproc=2048:2048",
)
# crun refuses a machine with both versions of control groups, though it is to make none
_APART = ("unshare", "--mount", "sh", "-c", 'mount -t tmpfs none /sys/fs/cgroup && exec "$@"', "sh")
_PACKAGES = "python3,python3-venv,ca-certificates"


def confined(image: str, *command: str, more: tuple[str, ...] = ()) -> tuple[str, ...]:
    """The command line that runs a command in a container as the image is meant to be run."""
    return (*_APART, "podman", "run", *CONFINED, *more, image, *command)


def debian() -> str:
    """The name of an image of this machine's Debian with its Python, made if it is not there.

    Skips the test, with the reason, where no such image can be made or run.
    """
    if os.geteuid() != 0:
        pytest.skip("only root may make a base image with debootstrap")
    _install()
    name = f"localhost/swath-debian:{_release()}"
    if subprocess.run(["podman", "image", "exists", name], check=False).returncode:
        with tempfile.TemporaryDirectory(prefix="swath-debian-") as folder:
            _bootstrap(Path(folder))
            tar = f"tar -C {folder} -c . | podman import - {name}"
            _must(["sh", "-c", tar], "podman import")
    _must(confined(name, "python3", "-c", "import venv"), "a container")
    return name


def _install() -> None:
    """Have the tools here: of a machine of one's own, nobody asked to install anything."""
    missing = [tool for tool in TOOLS if not shutil.which(tool)]
    if not missing:
        return
    if os.environ.get("CI", "false") == "false":
        pytest.skip(f"not installed: {', '.join(missing)} (with CI=true, the test installs them)")
    if not shutil.which("apt-get"):
        pytest.skip(f"not installed, and there is no apt-get: {', '.join(missing)}")
    _must(["apt-get", "update"], "apt-get update")
    _must(["apt-get", "install", "--yes", "--no-install-recommends", *missing], "apt-get install")


def _bootstrap(folder: Path) -> None:
    release = _release()
    listed = [
        "apt-get",
        "indextargets",
        "--format",
        "$(CODENAME) $(REPO_URI)",
        "Created-By: Packages",
    ]
    sources = [line.split() for line in _must(listed, "apt-get indextargets").splitlines()]
    mirrors = [place for codename, place in sources if codename == release]
    if not mirrors:
        pytest.skip(f"no source of apt has Debian's {release}")
    options = ["--variant=minbase", f"--include={_PACKAGES}"]
    _must(["debootstrap", *options, release, str(folder), mirrors[0]], "debootstrap")
    for kept in (
        *folder.glob("var/cache/apt/archives/*.deb"),
        *folder.glob("var/lib/apt/lists/*_*"),
    ):
        kept.unlink()


def _release() -> str:
    return platform.freedesktop_os_release().get("VERSION_CODENAME", "unknown")


def _must(command: list[str] | tuple[str, ...], what: str) -> str:
    """What a command prints; skips the test where this machine cannot do it."""
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        said = (done.stderr or done.stdout).strip().splitlines()[-1:] or ["it said nothing"]
        pytest.skip(f"{what} cannot be had here: {said[0]}")
    return done.stdout
