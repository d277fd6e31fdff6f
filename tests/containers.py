"""Containers for tests with Debian's packages: podman and crun, on a base image of debootstrap."""

from __future__ import annotations

import fcntl
import os
import platform
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from deployments.image.build import build

TOOLS = ("podman", "crun", "debootstrap")
SWATH = "localhost/swath-test"
BUILD = (
    "--isolation=chroot",  # needs only a mount namespace
    "--network=host",
    "--layers=false",  # a gigabyte is packed once, not for every step
)
LIMITS = (
    "--cgroups=disabled",
    "--ulimit=nofile=1024:4096",  # lower than podman's default, which some machines do not allow
    "--ulimit=nproc=2048:2048",
)
CONFINED = (
    "--rm",
    "--read-only",
    "--read-only-tmpfs=false",
    "--tmpfs=/tmp",
    "--cap-drop=all",
    "--security-opt=no-new-privileges",
    "--network=none",
    "--no-healthcheck",  # podman needs systemd for it
    *LIMITS,
)
# crun refuses a machine with both versions of control groups, even with --cgroups=disabled
_WITHOUT_CGROUPS = (
    "unshare",
    "--mount",
    "sh",
    "-c",
    'mount -t tmpfs none /sys/fs/cgroup && exec "$@"',
    "sh",
)
PODMAN_COMPOSE = str(Path(sys.executable).with_name("podman-compose"))
"""Installed with what the tests need: Debian's does not know all that the file uses."""

_PACKAGES = "python3,python3-venv,ca-certificates"


def confined(image: str, *command: str, more: tuple[str, ...] = ()) -> tuple[str, ...]:
    """The command line of a container with the restrictions that the image is meant for."""
    return (*_WITHOUT_CGROUPS, "podman", "run", *CONFINED, *more, image, *command)


def debian() -> str:
    """The name of an image of this machine's Debian release with Python; built if needed.

    Skips the test, with the reason, if no such image can be built or run.
    """
    if os.geteuid() != 0:
        pytest.skip("only root can build a base image with debootstrap")
    _install()
    name = f"localhost/swath-debian:{_release()}"
    if subprocess.run(["podman", "image", "exists", name], check=False).returncode:
        with tempfile.TemporaryDirectory(prefix="swath-debian-") as folder:
            _bootstrap(Path(folder))
            tar = f"tar -C {folder} -c . | podman import - {name}"
            _run_or_skip(["sh", "-c", tar], "podman import")
    _run_or_skip(confined(name, "python3", "-c", "import venv"), "a container")
    return name


def swath() -> str:
    """The name of Swath's image, built once in a test session, also if it has several processes.

    Skips the test as `debian` does.
    """
    base, session = debian(), os.environ.get("PYTEST_XDIST_TESTRUNUID", str(os.getpid()))
    with (Path(tempfile.gettempdir()) / "swath-test-image").open("a+") as built:
        fcntl.flock(built, fcntl.LOCK_EX)
        built.seek(0)
        if built.read() != session:
            build(with_engine="podman", tag=SWATH, base=base, more=BUILD)
            built.truncate(0)
            built.write(session)
    return SWATH


def _install() -> None:
    """Install the tools in CI; on a developer's machine, skip the test instead."""
    missing = [tool for tool in TOOLS if not shutil.which(tool)]
    if not missing:
        return
    if os.environ.get("CI", "false") == "false":
        pytest.skip(f"not installed: {', '.join(missing)} (with CI=true, the test installs them)")
    if not shutil.which("apt-get"):
        pytest.skip(f"not installed, and there is no apt-get: {', '.join(missing)}")
    _run_or_skip(["apt-get", "update"], "apt-get update")
    _run_or_skip(
        ["apt-get", "install", "--yes", "--no-install-recommends", *missing], "apt-get install"
    )


def _bootstrap(folder: Path) -> None:
    release = _release()
    listed = [
        "apt-get",
        "indextargets",
        "--format",
        "$(CODENAME) $(REPO_URI)",
        "Created-By: Packages",
    ]
    sources = [line.split() for line in _run_or_skip(listed, "apt-get indextargets").splitlines()]
    mirrors = [uri for codename, uri in sources if codename == release]
    if not mirrors:
        pytest.skip(f"no source of apt has Debian's {release}")
    options = ["--variant=minbase", f"--include={_PACKAGES}"]
    _run_or_skip(["debootstrap", *options, release, str(folder), mirrors[0]], "debootstrap")
    for kept in (
        *folder.glob("var/cache/apt/archives/*.deb"),
        *folder.glob("var/lib/apt/lists/*_*"),
    ):
        kept.unlink()


def _release() -> str:
    return platform.freedesktop_os_release().get("VERSION_CODENAME", "unknown")


def _run_or_skip(command: list[str] | tuple[str, ...], what: str) -> str:
    """The output of a command; skips the test if the command fails."""
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        said = (done.stderr or done.stdout).strip().splitlines()[-1:] or ["no output"]
        pytest.skip(f"{what} failed on this machine: {said[0]}")
    return done.stdout
