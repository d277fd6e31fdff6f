"""The bundle for places without internet: made small, and installed from without a network."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest

from deployments.bundle.build import Target, make, pins_for
from tasks.errors import StackError

LOCK = (Path(__file__).parents[2] / "requirements.lock").read_text()
NEEDED = ("hatchling", "editables", "packaging", "pathspec", "pluggy", "trove-classifiers")
"""What an editable installation without its dependencies takes."""


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The unpacked bundle of a lock with few packages."""
    folder = tmp_path_factory.mktemp("bundle")
    lines = pins_for(LOCK, Target()).splitlines()
    few = [line for line in lines if line.partition("==")[0] in NEEDED]
    (folder / "few.lock").write_text("\n".join(few))
    with tarfile.open(make(folder, Target(), lock=folder / "few.lock")) as tar:
        tar.extractall(folder, filter="data")
    (found,) = folder.glob("swath-*/")
    return found


def install(bundle: Path, folder: Path, **variables: str) -> subprocess.CompletedProcess[str]:
    """Run the install script, without a network where this machine lets us."""
    offline = ["unshare", "--net", "--map-root-user"]
    if subprocess.run([*offline, "true"], capture_output=True, check=False).returncode:
        offline = []
    given = {"PYTHON": sys.executable, "WITHOUT_CACHES": "1", "PIP_INDEX_URL": "http://127.0.0.1:9"}
    return subprocess.run(
        [*offline, bundle / "install.sh", folder],
        env=os.environ | given | variables,
        capture_output=True,
        text=True,
        check=False,
    )


def test_it_is_installed_like_a_clone_without_a_network(bundle: Path, tmp_path: Path) -> None:
    done = install(bundle, tmp_path / "swath")
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "swath" / "docs" / "bundle.md").is_file()
    assert os.access(tmp_path / "swath" / ".venv" / "bin" / "swath", os.X_OK)
    told = "import importlib.metadata as m, tasks; print(m.version('swath'), tasks.__path__[0])"
    python = tmp_path / "swath" / ".venv" / "bin" / "python"
    where = subprocess.run(
        [python, "-c", told], cwd=tmp_path, capture_output=True, text=True, check=True
    )
    assert where.stdout.split()[1] == str(tmp_path / "swath" / "tasks")
    again = install(bundle, tmp_path / "swath")
    assert again.returncode == 2
    assert "Name one folder that is not there yet" in again.stderr


def test_a_file_that_was_changed_on_the_way_is_not_installed(bundle: Path, tmp_path: Path) -> None:
    changed = shutil.copytree(bundle, tmp_path / "changed")
    wheel = next(changed.glob("wheels/pluggy-*.whl"))
    wheel.write_bytes(wheel.read_bytes()[:-1] + b"!")
    done = install(changed, tmp_path / "swath")
    assert done.returncode != 0
    assert f"wheels/{wheel.name}: FAILED" in done.stdout + done.stderr
    assert not (tmp_path / "swath").exists()


def test_another_version_of_python_is_refused(bundle: Path, tmp_path: Path) -> None:
    other = shutil.copytree(bundle, tmp_path / "other")
    (other / "PYTHON").write_text("3.99\n")
    done = install(other, tmp_path / "swath")
    assert "This bundle is for Python 3.99" in done.stderr
    assert not (tmp_path / "swath").exists()


def test_pins_are_those_of_the_target_with_all_their_hashes() -> None:
    new, old = Target("3.14", "aarch64"), Target("3.11", "x86_64")
    assert "async-timeout" not in pins_for("async-timeout==1 ; python_full_version < '3.11.3'", new)
    for target in (new, old):
        pins = pins_for(LOCK, target).splitlines()
        assert len(pins) > 100
        assert all(re.fullmatch(r"\S+==\S+( --hash=sha256:[0-9a-f]{64})+", pin) for pin in pins)
    hashes = {
        hash_ for pin in (new, old) for hash_ in re.findall("sha256:.{64}", pins_for(LOCK, pin))
    }
    assert hashes <= set(re.findall("sha256:.{64}", LOCK))
    assert not pins_for("pywin32==1 ; sys_platform == 'win32' \\\n    --hash=sha256:0", old)


def test_what_swath_does_not_run_on_is_refused() -> None:
    with pytest.raises(StackError, match=r"--python 3.10: Swath needs 3.11"):
        Target("3.10")
