"""A sign of life: the driver of a sweep rewrites its row every so often, so that others can tell a killed one."""

import threading
from collections.abc import Callable
from types import TracebackType
from typing import Self

from scionlab.errors import UserError

INTERVAL_S = 30.0


class Heartbeat:
    """Calls `beat` every INTERVAL_S seconds from a thread of its own, until the block ends.

    What cannot be written, or must not, is left out: the next beat may come through, and the sweep's last word says
    what is wrong.
    """

    def __init__(self, beat: Callable[[], None]) -> None:
        self.beat = beat
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run, name="heartbeat", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._over.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._over.wait(INTERVAL_S):
            try:
                self.beat()
            except (OSError, UserError):
                continue
