"""Calls of sweeps in a store: their order, whatever the clock says, and whether their store is still there."""

import re
from datetime import UTC, datetime, timedelta

from rich.console import Console

from scionlab.errors import UserError
from scionlab.runs.store import RunStore

# The start of a sweep's id is the second it began in.
STAMP, STAMPED = "%Y%m%dT%H%M%S", re.compile(r"\d{8}T\d{6}")


def call_time(store: RunStore, console: Console) -> datetime:
    """Now, or a second after the newest call in the store, where the clock has been put back since; says so, then.

    Reports are about the sweep that was called last, and times are how a store tells.
    """
    now = datetime.now(UTC)
    stamps = [found[0] for sweep_id in store.sweep_ids() if (found := STAMPED.match(sweep_id))]
    if not stamps:
        return now
    newest = datetime.strptime(max(stamps), STAMP).replace(tzinfo=UTC)
    if now >= newest:
        return now
    console.print(
        f"warning: the clock says {now:%Y-%m-%d %H:%M} UTC, and the newest sweep in {store} began at "
        f"{newest:%Y-%m-%d %H:%M}: this one is written down as begun a second later, so that it is the newest",
        soft_wrap=True,
    )
    return newest + timedelta(seconds=1)


def check_there(store: RunStore, sweep_id: str) -> None:
    """UserError unless the sweep's own row is in the store, for a store on a disk.

    A folder that was removed, or a share that is not mounted any more, must not be made anew and filled.
    """
    if store.on_disk and not (store.root / "sweeps" / f"{sweep_id}.parquet").exists():
        raise UserError(
            f"results: {str(store)!r} has been removed or moved away since the sweep began, which therefore stops: put "
            "the folder back, then run the same command again; trials whose files are gone are trained again"
        )
