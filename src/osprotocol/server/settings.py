"""What a server can be told."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class ServerSettings:
    """How a server behaves. Every field has an option of ``osp serve``.

    Attributes:
        host: address to listen on; anything but loopback needs users.
        port: TCP port; 0 takes a free one.
        public_url: what browsers use when a reverse proxy stands in front, for example ``https://runs.example.org``.
        allow_self_approval: whether a person may vote on a run that the same person started.
        allow_hosts: further values of the Host header that are answered.
        streams_per_person, streams: how many live streams may be open.
    """

    host: str = "127.0.0.1"
    port: int = 8321
    public_url: str | None = None
    allow_self_approval: bool = False
    allow_hosts: tuple[str, ...] = ()
    streams_per_person: int = 6
    streams: int = 200
