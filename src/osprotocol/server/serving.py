"""What every route can reach."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

from fastapi import Depends, Request

from osprotocol.client import Client
from osprotocol.server.access import Principal
from osprotocol.server.redaction import sees_redacted
from osprotocol.server.seeing import seen_client
from osprotocol.server.settings import ServerSettings

if TYPE_CHECKING:
    from osprotocol._embedded.books import Books
    from osprotocol.server.hub import Hub


@dataclass(slots=True)
class Serving:
    """A running server.

    Attributes:
        client: the runs.
        books: people, tokens, sessions, replies and the audit log.
        settings: what it was told.
        hub: live events, shared by all streams.
    """

    client: Client
    books: Books
    settings: ServerSettings
    hub: Hub


class _ServingFor(Serving):
    """The server's parts for one request: what its client reads is cleaned for whoever asks."""

    def __init__(self, whole: Serving, request: Request) -> None:
        self.books, self.settings, self.hub = whole.books, whole.settings, whole.hub
        self._whole = whole
        self._request = request

    @property
    def client(self) -> Client:  # type: ignore[override]
        who: Principal | None = getattr(self._request.state, "principal", None)
        return seen_client(self._whole.client, fully=who is None or sees_redacted(who))


def _serving(request: Request) -> Serving:
    return _ServingFor(request.app.state.serving, request)


Here = Annotated[Serving, Depends(_serving)]
"""Parameter type of a route that needs the server's parts."""
