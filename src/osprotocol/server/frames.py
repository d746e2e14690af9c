"""What goes over a live stream: server-sent events, made once for all streams."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from pydantic_core import to_json

from osprotocol.protocol.events import Event, LogLine
from osprotocol.protocol.run import FINAL_STATUSES, RunStatus
from osprotocol.server.redaction import redact_json
from osprotocol.server.replies import json_of
from osprotocol.server.seeing import clean_event

HEARTBEAT = b": still here\n\n"
MEDIA_TYPE = "text/event-stream"


class Entry:
    """One event, ready to be sent. Its JSON is made once, and once more for those who may only look.

    Attributes:
        cursor: by it a stream of all runs is resumed.
        number: by it the stream of its run is resumed.
    """

    __slots__ = ("_for_viewers", "_json", "cursor", "number", "run_id", "status")

    def __init__(self, event: Event) -> None:
        self.cursor, self.number, self.run_id, self.status = event.cursor, event.number, event.run_id, event.status
        self._json = redact_json(json_of(event), fully=False)
        self._for_viewers: bytes | None = None

    @property
    def size(self) -> int:
        """Bytes of its JSON."""
        return len(self._json)

    def frame(self, *, of_run: bool, fully: bool) -> bytes:
        """As it goes over a stream of one run, or of all; `fully` for those who may only look."""
        data = self._json
        if fully:
            if self._for_viewers is None:
                self._for_viewers = json_of(clean_event(Event.model_validate_json(self._json), fully=True))
            data = self._for_viewers
        return b"id: %d\ndata: %b\n\n" % (self.number if of_run else self.cursor, data)


def frames(entries: Iterable[Entry], *, of_run: bool, fully: bool) -> bytes:
    """Several events as one chunk."""
    return b"".join([entry.frame(of_run=of_run, fully=fully) for entry in entries])


def final_status(entries: list[Entry]) -> RunStatus | None:
    """The final status that a run entered with one of these events."""
    return next((entry.status for entry in entries if entry.status in FINAL_STATUSES), None)


def log_frames(run_id: str, lines: Iterable[LogLine], *, fully: bool) -> bytes:
    """Lines of a run's log; they have no id, so that a stream is resumed by its events only."""
    run = b',"runId":%b}' % to_json(run_id)
    found = [redact_json(json_of(line), fully=fully)[:-1] for line in lines]
    return b"".join([b"event: log\ndata: %b%b\n\n" % (data, run) for data in found])


def note_frame(name: str, **facts: Any) -> bytes:
    """``end`` or ``reset``."""
    return b"event: %b\ndata: %b\n\n" % (name.encode(), to_json(facts))
