"""Part files of processes that were killed are removed; those that are being written are not."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

from tasks.storage.parts import part_file, remove_abandoned

WRITER = """
import sys, time
from pathlib import Path
from tasks.storage.parts import part_file
with part_file(Path(sys.argv[1])) as (path, sink):
    sink.write(b"half")
    sink.flush()
    print(path, flush=True)
    time.sleep(600)
"""


def test_only_the_part_files_of_killed_processes_are_removed(tmp_path: Path) -> None:
    (tmp_path / "x.part").write_text("of a user")
    with subprocess.Popen(
        [sys.executable, "-c", WRITER, tmp_path], stdout=subprocess.PIPE, text=True
    ) as killed:
        assert killed.stdout is not None
        path = Path(killed.stdout.readline().strip())
        try:
            remove_abandoned(tmp_path)
            assert path.read_bytes() == b"half"
        finally:
            killed.send_signal(signal.SIGKILL)
    assert path.exists()
    with part_file(tmp_path) as (own, _):
        remove_abandoned(tmp_path)
        assert own.exists()
    assert [each.name for each in tmp_path.iterdir()] == ["x.part"]
