"""What a local stack keeps in its folder: ports, and the versions that can read the rest."""

from __future__ import annotations

import json
import socket
from pathlib import Path

import pytest

from deployments.local.kept import Kept
from deployments.local.loopback import HOST, free_port
from tasks.errors import StackError


def kept(folder: Path, lines: list[str] | None = None, *, fresh: bool = False) -> Kept:
    return Kept(folder, fresh=fresh, progress=print if lines is None else lines.append)


@pytest.fixture(autouse=True)
def own_reservations(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


def test_a_port_is_the_preferred_one_and_then_that_of_the_last_time(tmp_path: Path) -> None:
    first, second = free_port(), free_port()
    assert kept(tmp_path).port("Prefect", first) == first
    lines: list[str] = []
    assert kept(tmp_path, lines).port("Prefect", second) == first
    assert kept(tmp_path, fresh=True).port("Prefect", second) == second
    assert lines == [
        f"Goes on with the queues, buckets and runs in {tmp_path}; --fresh begins anew"
    ]


def test_a_port_that_is_taken_is_replaced_and_named(tmp_path: Path) -> None:
    before = kept(tmp_path).port("Prefect", free_port())
    lines: list[str] = []
    with socket.socket() as other:
        other.bind((HOST, before))
        other.listen()
        after = kept(tmp_path, lines).port("Prefect", before)
    assert after != before
    assert f"Port {before} is taken, so Prefect listens on {after}" in lines[1]
    assert kept(tmp_path).port("Prefect", before) == after


def test_a_folder_of_a_newer_version_is_refused_with_the_remedy(tmp_path: Path) -> None:
    kept(tmp_path).port("Prefect", free_port())
    (path,) = tmp_path.glob("*.json")
    record = json.loads(path.read_text())
    record["versions"]["prefect"] = "99.10.1"
    path.write_text(json.dumps(record))
    with pytest.raises(StackError, match=r"written by prefect 99.10.1, .*`swath up --fresh`"):
        kept(tmp_path)
    record["versions"]["prefect"] = "3.9.0"  # Prefect migrates its database
    path.write_text(json.dumps(record))
    kept(tmp_path)


@pytest.mark.parametrize("fresh", [True, False], ids=["fresh", "of an earlier version of Swath"])
def test_a_start_removes_what_is_not_to_be_kept_and_nothing_else(
    fresh: bool, tmp_path: Path
) -> None:
    for name in ("aws/sqs.json", "prefect/prefect.db", "logs/worker.log"):
        (tmp_path / name).parent.mkdir()
        (tmp_path / name).touch()
    if fresh:
        kept(tmp_path / "other").port("Prefect", free_port())
        (tmp_path / "other" / "kept.json").rename(tmp_path / "kept.json")
    kept(tmp_path, fresh=fresh)
    left = {path.name for path in tmp_path.iterdir()}
    assert left - {"cache", "other"} == {"logs"}
