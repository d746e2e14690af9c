"""What the engine uses of the machine that it runs on, besides time and chance."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from osprotocol._clock import Clock
from osprotocol._embedded.duties import Watchdog
from osprotocol._embedded.filewatch import FileWatch, watch_file
from osprotocol._embedded.lane import Lane
from osprotocol._embedded.logs import install
from osprotocol._embedded.store import Store
from osprotocol._embedded.upstream import Upstream
from osprotocol._embedded.worker import Worker


class Machine:
    """Disk, threads and the system's notices. A simulation puts another machine under the same engine."""

    def open_store(
        self, path: Path, clock: Clock, durability: str, vfs: str | None, upstream: Upstream | None
    ) -> Store:
        """The database of a process."""
        return Store(path, clock, durability, vfs, upstream)

    def new_lane(self) -> Lane:
        """Where commits are made that would hold the event loop."""
        return Lane()

    def watch_file(self, path: Path) -> FileWatch | None:
        """What tells that another process wrote a file; None where nothing does."""
        return watch_file(path)

    def attend(self, worker: Worker, log_level: int) -> Callable[[], None]:
        """Watch over the event loop, and collect what the runs log; gives what ends both."""
        watchdog, remove_logging = Watchdog(worker), install(log_level)

        def end() -> None:
            watchdog.stop()
            remove_logging()

        return end
