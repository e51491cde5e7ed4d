"""The run store: a folder of Parquet tables, one small file per trial. The only place that reads or writes runs.

    results/runs/runs/<trial_id>.parquet      the summary row; its presence says that the trial is complete
    results/runs/curves/<trial_id>.parquet    its curve, written before the row
    results/runs/layers/<trial_id>.parquet    its layers, if it watched them, likewise
    results/runs/sweeps/<sweep_id>.parquet    which trials a sweep asked for
    results/runs/imports/<name>.parquet       runs that were trained elsewhere

Every file is written under a hidden temporary name and renamed, so readers see whole files only, and any number of
processes can write at once. Any Parquet reader can read the tables without this code.
"""

import os
import tempfile
from collections.abc import Collection, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.dataset as ds
import pyarrow.parquet as pq

from scionlab.errors import UserError
from scionlab.schema import CURVES, IMPORTS, LAYERS, RUNS, SCHEMA_VERSION, SWEEPS, Table

FINISHED = ("ok", "diverged")


class RunStore:
    """The tables below `root`, as DataFrames. Reading a folder that does not exist gives empty tables."""

    def __init__(self, root: str | os.PathLike[str]) -> None:
        self.root = Path(root)

    def runs(self, trial_ids: Collection[str] | None = None) -> pd.DataFrame:
        """One row per trial; `trial_ids` selects."""
        return self._read(RUNS, trial_ids)

    def curves(self, trial_ids: Collection[str] | None = None) -> pd.DataFrame:
        """One row per logged step and per probe, ordered by trial and step."""
        curves = self._read(CURVES, trial_ids)
        return curves.sort_values(["trial_id", "step"], ignore_index=True)

    def layers(self, trial_ids: Collection[str] | None = None) -> pd.DataFrame:
        """One row per measured step and parameter of the trials that watched them, ordered by trial and step."""
        layers = self._read(LAYERS, trial_ids)
        return layers.sort_values(["trial_id", "step"], ignore_index=True, kind="stable")

    def sweeps(self) -> pd.DataFrame:
        """One row per call of a sweep, oldest first."""
        return self._read(SWEEPS).sort_values(["started_at", "sweep_id"], ignore_index=True)

    def imports(self, name: str) -> pd.DataFrame:
        """One row per run of the import called `name`, in the order of its file."""
        return self._read(IMPORTS, [name]).sort_values("row", ignore_index=True)

    def finished(self) -> set[str]:
        """Ids of the trials that need no more training: `ok` and `diverged`, not `error`."""
        table = self._scan(RUNS, columns=["trial_id"], filter=ds.field("status").isin(FINISHED))
        return set(table["trial_id"].to_pylist())

    def write_run(
        self, row: Mapping[str, Any], curve: Iterable[Mapping[str, Any]], layers: Sequence[Mapping[str, Any]] = ()
    ) -> None:
        """Add a trial, replacing an earlier failed try."""
        keys = {"trial_id": row["trial_id"]}
        self._write(CURVES, row["trial_id"], [{**keys, **point} for point in curve])
        if layers:
            self._write(LAYERS, row["trial_id"], [{**keys, **layer} for layer in layers])
        self._write(RUNS, row["trial_id"], [row])

    def write_sweep(self, row: Mapping[str, Any]) -> None:
        """Add a sweep, or replace its row by a later state."""
        self._write(SWEEPS, row["sweep_id"], [row])

    def write_import(self, name: str, rows: Iterable[Mapping[str, Any]]) -> None:
        """Add an import, or replace it whole by a later one."""
        self._write(IMPORTS, name, [{"name": name, **row} for row in rows])

    def check_writable(self) -> None:
        """Raise UserError unless files can be made below `root`; leaves nothing behind but the folders."""
        try:
            for table in (RUNS, CURVES, LAYERS, SWEEPS):
                self._folder(table).mkdir(parents=True, exist_ok=True)
                with tempfile.TemporaryFile(dir=self._folder(table)):
                    pass
        except OSError as error:
            raise UserError(f"results: cannot write to {str(self.root)!r}: {error.strerror or error}") from None

    def _folder(self, table: Table) -> Path:
        return self.root / table.name

    def _write(self, table: Table, key: str, rows: Sequence[Mapping[str, Any]]) -> None:
        stamped = [{"schema_version": SCHEMA_VERSION, **row} for row in rows]
        folder = self._folder(table)
        folder.mkdir(parents=True, exist_ok=True)
        temporary = folder / f".{key}.{os.getpid()}.tmp"
        try:
            pq.write_table(pa.Table.from_pylist(stamped, schema=table.schema), temporary)
            os.replace(temporary, folder / f"{key}.parquet")
        finally:
            temporary.unlink(missing_ok=True)

    def _scan(self, table: Table, **query: Any) -> pa.Table:
        paths = sorted(str(path) for path in self._folder(table).glob("[!.]*.parquet"))
        try:
            return ds.dataset(paths, schema=table.schema, format="parquet").to_table(**query)
        except (pa.ArrowException, OSError) as error:
            folder, reason = str(self._folder(table)), str(error).splitlines()[0]
            raise UserError(f"results: a file in {folder!r} is not one of this store: {reason}") from None

    def _read(self, table: Table, keys: Collection[str] | None = None) -> pd.DataFrame:
        query = {} if keys is None else {"filter": ds.field(table.key).isin(pa.array(list(keys), pa.string()))}
        return self._scan(table, **query).to_pandas()
