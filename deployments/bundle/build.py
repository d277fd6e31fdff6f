"""Makes the bundle: `make bundle`, on a machine with internet.

It has the wheels of `requirements.lock` for one version of Python and one processor, with their
hashes; the source with the pages of docs; an install script; and the container image if asked for.
"""

from __future__ import annotations

import argparse
import hashlib
import platform
import re
import shutil
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from packaging.markers import Marker

from deployments.image.build import ENGINES, find_engine, version
from tasks.errors import StackError

_PROJECT = Path(__file__).parents[2]
_LOCK = _PROJECT / "requirements.lock"
_INSTALL = Path(__file__).with_name("install.sh")
_OLDEST_GLIBC, _NEWEST_GLIBC = 5, 28  # 2.28: RHEL 8, Debian 10
_PIN = re.compile(r"^(?P<name>[\w.-]+==[^\s;\\]+)\s*(?:;(?P<marker>[^\\]*))?", re.MULTILINE)


@dataclass(frozen=True)
class Target:
    """Where a bundle is installed: Linux with glibc 2.28 or newer.

    Attributes:
        python: Version of Python, such as 3.12.
        machine: Processor, as `uname -m` names it.
    """

    python: str = f"{sys.version_info[0]}.{sys.version_info[1]}"
    machine: str = platform.machine()

    def __post_init__(self) -> None:
        if not re.fullmatch(r"3\.1[1-4]", self.python):
            raise StackError(f"--python {self.python}: Swath needs 3.11, 3.12, 3.13 or 3.14.")

    def needs(self, marker: str) -> bool:
        """Whether a line of a lock with this marker is for it; an empty marker is for all."""
        here = {
            "implementation_name": "cpython",
            "os_name": "posix",
            "platform_machine": self.machine,
            "platform_python_implementation": "CPython",
            "platform_system": "Linux",
            "python_full_version": f"{self.python}.0",
            "python_version": self.python,
            "sys_platform": "linux",
        }
        return not marker or Marker(marker).evaluate(here)

    def options(self) -> Iterator[str]:
        """The options of `pip download` for it."""
        yield f"--python-version={self.python}"
        yield "--implementation=cp"
        for minor in range(_NEWEST_GLIBC, _OLDEST_GLIBC - 1, -1):
            yield f"--platform=manylinux_2_{minor}_{self.machine}"
        for old in ("manylinux2014", "manylinux2010", "manylinux1", "linux"):
            yield f"--platform={old}_{self.machine}"


def pins_for(lock: str, target: Target) -> str:
    """The lines of a lock that a target needs, with their hashes and without markers."""
    found = list(_PIN.finditer(lock))
    ends = [each.start() for each in found[1:]] + [len(lock)]
    return "".join(
        " ".join([pin["name"], *re.findall(r"--hash=\S+", lock[pin.end() : end])]) + "\n"
        for pin, end in zip(found, ends, strict=True)
        if target.needs((pin["marker"] or "").strip())
    )


def make(out: Path, target: Target, *, lock: Path = _LOCK, image: str | None = None) -> Path:
    """Make a bundle of the commit that is checked out.

    Args:
        out: Folder for it.
        target: Where it is installed.
        lock: What is to be installed.
        image: Name of a container image that the bundle has too.

    Returns:
        The file, a tar with one folder.

    Raises:
        StackError: A wheel cannot be had for the target, or the image cannot be saved.
    """
    revision = _git("rev-parse", "HEAD")
    name = f"swath-{version()}-{revision[:7]}-python{target.python}-{target.machine}"
    with tempfile.TemporaryDirectory(prefix="swath-", dir=out) as temporary:
        folder = Path(temporary) / name
        folder.mkdir()
        _git("archive", f"--output={folder / 'source.tar'}", "HEAD")
        (folder / "wheels.lock").write_text(pins_for(lock.read_text(encoding="utf-8"), target))
        _download(folder, target)
        (folder / "PYTHON").write_text(f"{target.python}\n")
        (folder / "REVISION").write_text(f"{revision}\n")
        shutil.copy(_INSTALL, folder)
        if image is not None:
            _save(image, folder / "image.tar")
        (folder / "SHA256SUMS").write_text("".join(_sums(folder)))
        made = out / f"{name}.tar"
        with tarfile.open(made, "w") as tar:  # wheels and layers are compressed already
            tar.add(folder, name)
    return made


def _download(folder: Path, target: Target) -> None:
    command = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--quiet", "download"]
    options = ["--no-deps", "--only-binary=:all:", "--require-hashes", *target.options()]
    files = [f"--dest={folder / 'wheels'}", f"--requirement={folder / 'wheels.lock'}"]
    _run(
        [*command, *options, *files],
        f"pip download for Python {target.python} on {target.machine} failed; see its output above",
    )


def _save(image: str, to: Path) -> None:
    engine = find_engine()
    names = [image] if engine != "buildah" else [image, f"docker-archive:{to}"]
    command = ["push", *names] if engine == "buildah" else ["save", f"--output={to}", *names]
    _run([engine, *command], f"--image {image}: {engine} has no such image, or cannot save it")


def _sums(folder: Path) -> Iterator[str]:
    """The lines of SHA256SUMS, as `sha256sum --check` reads them."""
    for path in sorted(folder.rglob("*")):
        if path.is_file():
            with path.open("rb") as file:
                digest = hashlib.file_digest(file, "sha256").hexdigest()
            yield f"{digest}  {path.relative_to(folder)}\n"


def _git(*arguments: str) -> str:
    told = "there is no commit of Swath here: run it in a clone, with git installed"
    return _run(["git", "-C", str(_PROJECT), *arguments], told).strip()


def _run(command: Sequence[str], problem: str) -> str:
    try:
        done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=False)  # noqa: S603
    except FileNotFoundError:
        raise StackError(f"{problem}.") from None
    if done.returncode:
        raise StackError(f"{problem}.")
    return done.stdout


def main() -> int:
    """Make a bundle from the options of the command line; return the exit status."""
    here = Target()
    parser = argparse.ArgumentParser(prog="deployments.bundle.build", description=__doc__)
    parser.add_argument("--out", type=Path, default=Path(), help="folder for the bundle")
    parser.add_argument("--python", default=here.python, help="version of Python on the target")
    parser.add_argument("--machine", default=here.machine, help="its processor: x86_64 or aarch64")
    parser.add_argument("--image", help=f"also save this image, with {', '.join(ENGINES)}")
    options = parser.parse_args()
    try:
        made = make(options.out, Target(options.python, options.machine), image=options.image)
    except StackError as error:
        print(f"swath: {error}", file=sys.stderr)
        return 1
    print(made)
    return 0


if __name__ == "__main__":
    sys.exit(main())
