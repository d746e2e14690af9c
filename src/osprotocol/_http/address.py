"""Where a server is, and the token that says who we are to it."""

from __future__ import annotations

import ipaddress
import os
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

from osprotocol.errors import InvalidOptionError


@dataclass(frozen=True, slots=True)
class Address:
    """A server that may be asked.

    Attributes:
        url: scheme, host, port and path, without a slash at the end.
        is_local: it is on this machine.
        is_plain: what goes there is not encrypted.
    """

    url: str
    is_local: bool
    is_plain: bool


@dataclass(frozen=True, slots=True)
class Token:
    """What says who we are; its text shows in no log and no error."""

    secret: str = field(repr=False)

    def __post_init__(self) -> None:
        if not self.secret.isascii() or not self.secret.isprintable() or not self.secret or " " in self.secret:
            raise InvalidOptionError("token", "is not one that 'osp token create' printed")


def read_address(url: str) -> Address:
    """The server at a URL.

    Raises:
        InvalidOptionError: it is not the URL of a server, or others could read the token on the way to it.
    """
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError as error:
        raise InvalidOptionError("url", f"{url!r} is not usable: {error}") from None
    if not parts.hostname or not url.isprintable() or " " in url:
        raise InvalidOptionError("url", f"{url!r} names no host; write http://HOST:PORT")
    if parts.username is not None or parts.password is not None:
        raise InvalidOptionError("url", "holds a user name or password; give a token with OSP_TOKEN instead")
    if parts.query or parts.fragment:
        raise InvalidOptionError("url", f"{url!r} has a query or fragment; write http://HOST:PORT")
    host = f"[{parts.hostname}]" if ":" in parts.hostname else parts.hostname
    is_local, is_plain = is_loopback(parts.hostname), parts.scheme == "http"
    if is_plain and not is_local and os.environ.get("OSP_ALLOW_HTTP") != "1":
        raise InvalidOptionError(
            "url",
            f"http://{host} is another machine, and plain http shows the token to everybody on the way; "
            f"use https, or set OSP_ALLOW_HTTP=1 if the network is trusted",
        )
    shown = f"{parts.scheme}://{host}{'' if port is None else f':{port}'}{parts.path.rstrip('/')}"
    return Address(shown, is_local, is_plain)


def is_loopback(host: str) -> bool:
    """Whether a host, by name or address, is this machine and nothing else; an IPv6 address may have brackets."""
    try:
        address = ipaddress.ip_address(host.strip("[]"))
    except ValueError:
        return host.lower() == "localhost"
    mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
    return (mapped or address).is_loopback


def find_token(given: str | None) -> Token | None:
    """The token that was given, else that of ``OSP_TOKEN``, else that in the file named by ``OSP_TOKEN_FILE``.

    Raises:
        InvalidOptionError: it is no token, or the file cannot be read.
    """
    secret = given if given is not None else os.environ.get("OSP_TOKEN")
    if secret:
        return Token(secret.strip())
    file = os.environ.get("OSP_TOKEN_FILE")
    if not file:
        return None
    try:
        return Token(Path(file).read_text(encoding="utf-8").strip())
    except (OSError, UnicodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not text"
        raise InvalidOptionError("OSP_TOKEN_FILE", f"{file} cannot be read: {reason}") from None
