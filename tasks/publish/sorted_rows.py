"""Rows sorted by a key in bounded memory: an external merge sort."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa

KEY = pa.field("key", pa.uint64(), nullable=False)
"""The column that rows are sorted by; no two rows have the same."""

_RUN_BYTES = 1 << 24  # of rows that are sorted in memory
_RUN_BATCHES = 1 << 7  # that a sorted run is read in
_MERGED_BATCHES = 1 << 6  # whose rows are sorted together when runs are merged


class SortedRows:
    """Collects rows in any order, and gives them back sorted.

    Rows that fit into one run stay in memory. Others are stored in a file as sorted runs, which are
    merged when the rows are read.
    """

    def __init__(self, path: Path, run_bytes: int = _RUN_BYTES) -> None:
        """Collect rows.

        Args:
            path: The file for runs, written only if it is needed; whoever chose it removes it.
            run_bytes: Bytes of rows that are sorted in memory.
        """
        self._path, self._run_bytes = path, run_bytes
        self._tables: list[pa.Table] = []
        self._bytes = 0
        self._writer: pa.RecordBatchFileWriter | None = None
        self._last_keys: list[list[int]] = []  # of the batches of each run

    def add(self, table: pa.Table) -> None:
        """Add rows; all tables have the same schema, with `KEY`."""
        if not len(table):
            return
        self._tables.append(table)
        self._bytes += table.nbytes
        if self._bytes >= self._run_bytes:
            self._store_run()

    def read(self) -> Iterator[pa.Table]:
        """The rows in the order of their keys, some MiB at a time. No rows are added after that."""
        if self._writer is None:
            if self._tables:
                yield _sorted(self._tables)
            return
        if self._tables:
            self._store_run()
        self._writer.close()
        last_keys = sorted(key for keys in self._last_keys for key in keys)
        with pa.OSFile(str(self._path)) as source:
            reader = pa.ipc.open_file(source)
            starts = np.cumsum([0, *map(len, self._last_keys[:-1])]).tolist()
            runs = [
                _Run(reader, range(start, start + len(keys)))
                for start, keys in zip(starts, self._last_keys, strict=True)
            ]
            for bound in (*last_keys[_MERGED_BATCHES - 1 :: _MERGED_BATCHES], last_keys[-1]):
                if found := [table for run in runs for table in run.read_to(bound)]:
                    yield _sorted(found)

    def _store_run(self) -> None:
        run = _sorted(self._tables)
        if self._writer is None:
            self._writer = pa.ipc.new_file(self._path, run.schema)
        rows = max(1, len(run) // _RUN_BATCHES)
        self._writer.write_table(run, max_chunksize=rows)
        keys = run[KEY.name].to_numpy()
        self._last_keys.append([*keys[rows - 1 : -1 : rows].tolist(), int(keys[-1])])
        self._tables, self._bytes = [], 0


class _Run:
    """A sorted run that is read batch by batch."""

    def __init__(self, reader: pa.RecordBatchFileReader, batches: range) -> None:
        self._reader = reader
        self._batches = iter(batches)
        self._rest = pa.table({})  # read, but beyond the last bound

    def read_to(self, bound: int) -> Iterator[pa.Table]:
        """The rows after those that were read before, up to a key."""
        while True:
            if not len(self._rest):
                if (batch := next(self._batches, None)) is None:
                    return
                self._rest = pa.Table.from_batches([self._reader.get_batch(batch)])
            keys = self._rest[KEY.name].to_numpy()
            count = int(np.searchsorted(keys, np.uint64(bound), side="right"))
            if count:
                yield self._rest.slice(0, count)
                self._rest = self._rest.slice(count)
            if len(self._rest):
                return


def _sorted(tables: list[pa.Table]) -> pa.Table:
    """The rows of tables as one, in the order of their keys."""
    table = pa.concat_tables(tables).combine_chunks()
    return table.take(np.argsort(table[KEY.name].to_numpy()))
