"""What must be true before a server listens. Unsafe settings are errors, doubtful ones are told."""

from __future__ import annotations

import re
import shlex
import stat
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from osprotocol._clock import from_datetime
from osprotocol._http.address import is_loopback
from osprotocol.errors import InvalidOptionError
from osprotocol.server.settings import ServerSettings

if TYPE_CHECKING:
    from osprotocol._embedded.books import Books

STARLETTE_MIN = (1, 0, 1)
_HOST_ENTRY = re.compile(r"(\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9_.-]+)(:[0-9]{1,5})?\Z")


def check_start(settings: ServerSettings, books: Books, paths: Sequence[Path] = ()) -> list[str]:
    """Refuse to serve where that would not be safe.

    Args:
        settings: what the server was told.
        books: who may sign in.
        paths: database files that the server works with.

    Returns:
        What somebody should know, one line each.

    Raises:
        InvalidOptionError: with the reason and what to do.
    """
    check_starlette(version("starlette"))
    told = _check_names(settings)
    if not _somebody_can_sign_in(books):
        check_host_without_people(settings, next(iter(paths), None))
    if not is_loopback(settings.host) and not _is_https(settings):
        told.append(
            f"passwords and tokens cross the network readable: {settings.host} is served by plain http; "
            f"put a reverse proxy with TLS in front and give its address with --public-url https://..."
        )
    for path in paths:
        told += _check_file(path)
    return told


def check_host_without_people(settings: ServerSettings, path: Path | None) -> None:
    """Refuse to listen where other machines reach it as long as nobody can sign in.

    Args:
        settings: what the server was told.
        path: the database that people would be in.

    Raises:
        InvalidOptionError: it would listen there.
    """
    if is_loopback(settings.host):
        return
    there = "" if path is None else f" --db {shlex.quote(str(path))}"
    raise InvalidOptionError(
        "--host",
        f"{settings.host or 'every address'} can be reached from other machines, and nobody can sign in yet; make a "
        f"user with 'osp user add NAME --role admin --password-stdin{there}', or listen on 127.0.0.1",
    )


def check_starlette(installed: str) -> None:
    """Refuse a Starlette with a hole.

    Raises:
        InvalidOptionError: it is older than STARLETTE_MIN.
    """
    numbers = tuple(int(part) for part in re.findall(r"\d+", installed)[:3])
    if numbers < STARLETTE_MIN:
        least = ".".join(map(str, STARLETTE_MIN))
        raise InvalidOptionError(
            "starlette",
            f"version {installed} is installed; below {least} a forged Host header changes the path that permissions "
            f"are decided by; install starlette>={least}",
        )


def _is_https(settings: ServerSettings) -> bool:
    return urlsplit(settings.public_url or "").scheme == "https"


def _somebody_can_sign_in(books: Books) -> bool:
    people = {user.name: user for user in books.users() if not user.disabled}
    if any(user.has_password for user in people.values()):
        return True
    now = books._engine.clock.now()
    return any(
        token.user in people
        and token.revoked_at is None
        and (token.expires_at is None or from_datetime(token.expires_at) > now)
        for token in books.tokens()
    )


def _check_names(settings: ServerSettings) -> list[str]:
    for name in settings.allow_hosts:
        if not _HOST_ENTRY.match(name):
            raise InvalidOptionError("--allow-host", f"{name[:80]!r} is no host name; give NAME or NAME:PORT, no '*'")
    if settings.public_url is None:
        return []
    advice = f"{settings.public_url[:80]!r} is not like https://runs.example.org, as browsers send it"
    try:
        public = urlsplit(settings.public_url)
        is_good = public.scheme in ("http", "https") and public.port != 0 and bool(_HOST_ENTRY.match(public.netloc))
    except ValueError:  # a port or an IPv6 address that is none
        raise InvalidOptionError("--public-url", advice) from None
    if not is_good:
        raise InvalidOptionError("--public-url", advice)
    if public.path not in ("", "/") or public.query or public.fragment:
        raise InvalidOptionError("--public-url", "has a path; the server needs a host name of its own")
    if public.scheme == "http" and not is_loopback(public.hostname or ""):
        return [f"--public-url {settings.public_url}: plain http; passwords and tokens cross the network readable"]
    return []


def _check_file(path: Path) -> list[str]:
    """Who reads the file has inputs, results and the key of forms; who writes it has everything."""
    try:
        mode, folder = stat.S_IMODE(path.stat().st_mode), path.resolve().parent.stat().st_mode
    except FileNotFoundError:
        return []
    if mode & 0o007 and folder & 0o001:
        raise InvalidOptionError(
            "database", f"{path} has mode {mode:04o}, every user of this machine gets at it; 'chmod 600 {path}'"
        )
    if mode & 0o070 and folder & 0o010:
        return [f"{path} has mode {mode:04o}: the users of its group get at it; 'chmod 600' keeps it to you"]
    return []
