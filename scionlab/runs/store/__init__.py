"""The run store: a folder of Parquet tables, on a disk or in an S3 bucket. The only place that reads or writes runs.

    results/runs/runs/<trial_id>.parquet      the summary row; its presence says that the trial is complete
    results/runs/curves/<trial_id>.parquet    its curve, written before the row
    results/runs/layers/<trial_id>.parquet    its layers, if it watched them, likewise
    results/runs/scores/<trial_id>.parquet    its scores by group, if its data have groups, likewise
    results/runs/*/compacted.parquet          the same of many trials, sorted by trial_id, after a compaction
    results/runs/sweeps/<sweep_id>.parquet    which trials a sweep asked for
    results/runs/tunings/<study>.parquet      the trials of a search, also those that were ended early
    results/runs/imports/<name>.parquet       runs that were trained elsewhere; their curves are beside the others
    results/runs/checkpoints/<trial_id>.pt    a trial under way (`scionlab.runs.store.checkpoints`)

Every file appears whole (`scionlab.runs.store.places`), so any number of processes can read and write at once, on one
machine or on many. Any Parquet reader can read the tables without this code. `RunStore.compact` merges the small files
(`scionlab.runs.store.compaction`); nothing compacts a store unasked.
"""

import os
from collections.abc import Collection, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.dataset as ds

from scionlab.errors import UserError
from scionlab.runs.schema import CURVES, IMPORTS, LAYERS, RUNS, SCHEMA_VERSION, SCORES, SWEEPS, TABLES, TUNINGS, Table
from scionlab.runs.store.checkpoints import Checkpoints
from scionlab.runs.store.compaction import Compaction, alone, compact
from scionlab.runs.store.damage import Damaged, unwritable
from scionlab.runs.store.folder import TableFolder
from scionlab.runs.store.places import LocalPlace, join, place_of

__all__ = ["FINISHED", "Checkpoints", "Compaction", "Damaged", "RunStore", "imported", "join", "logged"]

FINISHED = ("ok", "diverged")


class RunStore:
    """The tables below `root`, as DataFrames. Reading a folder that does not exist gives empty tables.

    `root` is a folder, or a URL: file:///… or s3://bucket/prefix. A folder of results that has its tables in runs/ is
    as good as that one. `trial_ids` selects trials, and `columns` columns: what is not asked for is not read. UserError
    where S3 refuses. For example

        store = RunStore("results")
        store.experiments()                        what it has sweeps or imports of
        store.runs(columns=["lr", "val_loss"])     a DataFrame, one row a trial
        store.tidy("curves", experiment="width")   likewise, with the fields of its trial in every row
    """

    def __init__(self, root: str | os.PathLike[str]) -> None:
        self.place = place_of(root)
        if isinstance(self.place, LocalPlace) and any(
            (self.place.path / "runs" / table.name).is_dir() for table in (RUNS, SWEEPS, IMPORTS)
        ):
            self.place = self.place.below("runs")

    def __repr__(self) -> str:
        return f"RunStore({str(self)!r})"

    def __str__(self) -> str:
        return str(self.place)

    @property
    def url(self) -> str:
        """What makes the same store in another process, on whatever machine sees it: an absolute path, or a URL."""
        return self.place.url

    @property
    def checkpoints(self) -> Checkpoints:
        """Trials under way."""
        return Checkpoints(self.place)

    @property
    def on_disk(self) -> bool:
        """Whether it is a folder on a disk."""
        return isinstance(self.place, LocalPlace)

    @property
    def root(self) -> Path:
        """The folder of a store on a disk. UserError for one in a bucket."""
        if not isinstance(self.place, LocalPlace):
            raise UserError(f"results: {str(self)!r} is not a folder on a disk")
        return self.place.path

    def runs(self, trial_ids: Collection[str] | None = None, columns: Sequence[str] | None = None) -> pd.DataFrame:
        """One row per trial, ordered by trial."""
        return self._read(RUNS, trial_ids, columns)

    def curves(self, trial_ids: Collection[str] | None = None, columns: Sequence[str] | None = None) -> pd.DataFrame:
        """One row per logged step and per probe, ordered by trial and step."""
        return self._read(CURVES, trial_ids, columns)

    def losses(self, trial_ids: Collection[str] | None = None) -> pd.DataFrame:
        """The training losses among the curves' rows: trial_id, step, tokens and train_loss in nats per token."""
        columns = ["trial_id", "step", "tokens", "train_loss", "probe_batch_size"]
        found = self._read(CURVES, trial_ids, columns, ~ds.field("probe_batch_size").is_valid())
        return found.drop(columns="probe_batch_size")

    def probes(self, trial_ids: Collection[str] | None = None) -> pd.DataFrame:
        """The rows of probes among the curves."""
        return self._read(CURVES, trial_ids, where=ds.field("probe_batch_size").is_valid())

    def with_curve(self, trial_ids: Collection[str] | None = None) -> set[str]:
        """Ids of the trials whose curve has a row."""
        return set(self._folder(CURVES).scan(trial_ids, ["trial_id"])["trial_id"].unique().to_pylist())

    def layers(self, trial_ids: Collection[str] | None = None, columns: Sequence[str] | None = None) -> pd.DataFrame:
        """One row per measured step and parameter of the trials that watched them, ordered by trial and step."""
        return self._read(LAYERS, trial_ids, columns)

    def scores(self, trial_ids: Collection[str] | None = None, columns: Sequence[str] | None = None) -> pd.DataFrame:
        """One row per validation, group and metric of the trials whose data have groups, ordered by trial and step."""
        return self._read(SCORES, trial_ids, columns)

    def sweeps(self) -> pd.DataFrame:
        """One row per call of a sweep, oldest first."""
        return self._read(SWEEPS).sort_values(["started_at", "sweep_id"], ignore_index=True)

    def tunings(self, studies: Collection[str] | None = None) -> pd.DataFrame:
        """One row per trial of a search, by the searches' names and the trials' numbers; `params` are JSON."""
        return self._read(TUNINGS, studies).sort_values(["study", "number"], ignore_index=True)

    def sweep_ids(self) -> set[str]:
        """Ids of all sweeps; reads none of them."""
        return set(self._folder(SWEEPS).small())

    def imports(self, name: str) -> pd.DataFrame:
        """One row per run of the import called `name`, in the order of its file."""
        return self._read(IMPORTS, [name]).sort_values("row", ignore_index=True)

    def experiments(self) -> list[str]:
        """Names of the experiments that it has sweeps or imports of."""
        return sorted({*self.sweeps()["experiment"], *self._folder(IMPORTS).small()})

    def tidy(self, what: str = "runs", experiment: str | None = None, preset: str | None = None) -> pd.DataFrame:
        """A table with every field of a trial in a column of its own, as `scionlab export` writes it.

        `what` is runs, curves, layers, scores, sweeps or tunings. Of all trials, or of those that the last sweeps of an
        `experiment` or `preset` asked for. UserError for another name, and where there is no such row.
        """
        from scionlab.runs.export import export  # which is about stores

        return export(self, what, experiment, preset)

    def finished(self, trial_ids: Collection[str] | None = None) -> set[str]:
        """Ids of the trials that need no more training: `ok` and `diverged`, not `error`."""
        is_finished = ds.field("status").isin(FINISHED)
        table = self._folder(RUNS).scan(trial_ids, ["trial_id", "status"], is_finished)
        return set(table["trial_id"].to_pylist())

    def write_run(
        self,
        row: Mapping[str, Any],
        curve: Iterable[Mapping[str, Any]],
        layers: Sequence[Mapping[str, Any]] = (),
        scores: Sequence[Mapping[str, Any]] = (),
    ) -> None:
        """Add a trial, replacing an earlier failed try. UserError where it cannot be written, as of every `write_`."""
        keys = {"trial_id": row["trial_id"]}
        self._write(CURVES, row["trial_id"], [{**keys, **point} for point in curve])
        for table, rows in ((LAYERS, layers), (SCORES, scores)):
            if rows:
                self._write(table, row["trial_id"], [{**keys, **one} for one in rows])
        self._write(RUNS, row["trial_id"], [row])

    def write_sweep(self, row: Mapping[str, Any]) -> None:
        """Add a sweep, or replace its row by a later state."""
        self._write(SWEEPS, row["sweep_id"], [row])

    def write_tuning(self, study: str, rows: Iterable[Mapping[str, Any]]) -> None:
        """Add a search, or replace it whole by a later state."""
        self._write(TUNINGS, study, [{"study": study, **row} for row in rows])

    def write_import(
        self,
        name: str,
        rows: Iterable[Mapping[str, Any]],
        curves: Mapping[str, Sequence[Mapping[str, Any]]] | None = None,
    ) -> None:
        """Add an import, or replace it whole by a later one; `curves` has the logged steps of runs by trial_id."""
        before, logged = set(self.imports(name)["trial_id"]), curves or {}
        for trial_id, curve in logged.items():
            self._write(CURVES, trial_id, [{"trial_id": trial_id, **point} for point in curve])
        self._write(IMPORTS, name, _of_import(name, rows))
        folder = self._folder(CURVES)
        for trial_id in self.with_curve(before - set(logged)) if before else ():
            folder.remove(trial_id)

    def compact(self) -> list[Compaction]:
        """Merge the small files of finished trials into one large file per table; says what it did to each.

        Safe at any time, beside writers, readers and a kill. UserError without a store, for one in a bucket, where
        another process is at it, where a newer version wrote columns that would be lost, and where files cannot be
        written.
        """
        if not self.on_disk:
            hint = "copy it to a folder, and compact the copy"
            raise UserError(f"results: {str(self)!r} cannot be compacted, only a folder on a disk can; {hint}")
        if not (self.root / RUNS.name).is_dir():
            raise UserError(f"results: no runs in {str(self)!r}: there is nothing to compact")
        try:
            with alone(self.root):
                finished = self.finished()
                return [compact(self.root / table.name, table, finished) for table in (CURVES, LAYERS, SCORES, RUNS)]
        except OSError as error:
            raise UserError(f"results: cannot compact {str(self)!r}: {error.strerror or error}") from None

    def damaged(self) -> list[Damaged]:
        """The files that readers leave out because they cannot be read. Reads the whole store."""
        return [file for table in TABLES for file in self._folder(table).damaged()]

    def small_files(self) -> int:
        """Trials whose row is a file of its own: what a compaction could merge."""
        return len(self._folder(RUNS).small())

    def check_writable(self) -> None:
        """Raise UserError unless files can be made below `root`; leaves nothing behind but the folders."""
        try:
            for table in (RUNS, CURVES, LAYERS, SCORES, SWEEPS, TUNINGS):
                self.place.below(table.name).check_writable()
        except OSError as error:
            raise UserError(f"results: cannot write to {str(self)!r}: {error.strerror or error}") from None

    def _folder(self, table: Table) -> TableFolder:
        return TableFolder(self.place.below(table.name), table)

    def _write(self, table: Table, key: str, rows: Sequence[Mapping[str, Any]]) -> None:
        folder = self._folder(table)
        try:
            folder.write(key, _stamped(table, rows))
        except OSError as error:
            raise unwritable(str(folder.place), error) from None

    def _read(
        self,
        table: Table,
        keys: Collection[str] | None = None,
        columns: Sequence[str] | None = None,
        where: ds.Expression | None = None,
    ) -> pd.DataFrame:
        return self._folder(table).scan(keys, columns, where).to_pandas()


def imported(name: str, rows: Iterable[Mapping[str, Any]]) -> pd.DataFrame:
    """Rows of an import called `name` as `RunStore.imports` reads them, without a store."""
    return _stamped(IMPORTS, _of_import(name, rows)).to_pandas()


def logged(curves: Mapping[str, Sequence[Mapping[str, Any]]]) -> pd.DataFrame:
    """The logged steps of imported runs by trial_id as `RunStore.curves` reads them, without a store."""
    rows = [{"trial_id": trial_id, **point} for trial_id, curve in sorted(curves.items()) for point in curve]
    return _stamped(CURVES, rows).to_pandas()


def _of_import(name: str, rows: Iterable[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    return [{"name": name, **row} for row in rows]


def _stamped(table: Table, rows: Iterable[Mapping[str, Any]]) -> pa.Table:
    return pa.Table.from_pylist([{"schema_version": SCHEMA_VERSION, **row} for row in rows], schema=table.schema)
