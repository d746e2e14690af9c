"""Passwords: a memory-hard hash, a comparison in constant time, and the same work for people who do not exist."""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import secrets
import unicodedata
from base64 import b64decode, b64encode

from osprotocol.errors import InvalidOptionError, TooManyRequestsError

# 32 MiB and three passes: OWASP's cheat sheet names it as equal to its other recommendations for scrypt.
_COST = (1 << 15, 8, 3)
_MAX_BYTES = 64 * 1_048_576
_SALT_BYTES = 16
_HASH_BYTES = 32
_SCHEME = "scrypt"

CHARACTERS_MIN = 12
CHARACTERS_MAX = 256

_AT_ONCE = 2
"""How many hashes are made at the same time: bounds memory (32 MiB each) and leaves the processor to others."""
_WAITING = 16


def hash_password(password: str) -> str:
    """What is stored of a password. Takes a quarter of a second: call it in a thread.

    Raises:
        InvalidOptionError: shorter than CHARACTERS_MIN, longer than CHARACTERS_MAX or all the same character.
    """
    password = _normal(password)
    if not CHARACTERS_MIN <= len(password) <= CHARACTERS_MAX:
        raise InvalidOptionError(
            "password", f"it has {len(password)} characters; use {CHARACTERS_MIN} to {CHARACTERS_MAX}"
        )
    if len(set(password)) < 4:
        raise InvalidOptionError("password", "it has fewer than four different characters")
    salt = secrets.token_bytes(_SALT_BYTES)
    return _write(*_COST, salt, _derive(password, salt, *_COST))


def verify_password(password: str, stored: str | None) -> bool:
    """Whether it is the password of which `stored` was kept; None costs the same time and is never right."""
    password = _normal(password[: 2 * CHARACTERS_MAX])
    n, r, p, salt, expected = _read(stored) if stored is not None else (*_COST, *_NOBODY)
    found = _derive(password, salt, n, r, p)
    return hmac.compare_digest(found, expected) and stored is not None


def _normal(password: str) -> str:
    """One form for what keyboards write in several."""
    return unicodedata.normalize("NFKC", password)


def _derive(password: str, salt: bytes, n: int, r: int, p: int) -> bytes:
    data = password.encode("utf-8", "surrogatepass")
    return hashlib.scrypt(data, salt=salt, n=n, r=r, p=p, maxmem=_MAX_BYTES, dklen=_HASH_BYTES)


def _write(n: int, r: int, p: int, salt: bytes, derived: bytes) -> str:
    return f"{_SCHEME}${n}${r}${p}${b64encode(salt).decode()}${b64encode(derived).decode()}"


def _read(stored: str) -> tuple[int, int, int, bytes, bytes]:
    scheme, n, r, p, salt, derived = stored.split("$")
    if scheme != _SCHEME:
        raise ValueError(f"a password was stored by the unknown scheme {scheme[:20]!r}")
    return int(n), int(r), int(p), b64decode(salt), b64decode(derived)


_NOBODY = (bytes(_SALT_BYTES), bytes(_HASH_BYTES))


class Passwords:
    """Checks passwords in threads, few at a time; more than `waiting` in the queue are turned away at once."""

    def __init__(self, at_once: int = _AT_ONCE, waiting: int = _WAITING) -> None:
        self._turn = asyncio.Semaphore(at_once)
        self._room = at_once + waiting
        self._inside = 0

    async def verify(self, password: str, stored: str | None) -> bool:
        """As `verify_password`.

        Raises:
            TooManyRequestsError: too many wait already.
        """
        if self._inside >= self._room:
            raise TooManyRequestsError("sign-ins at the same time", 2)
        self._inside += 1
        try:
            async with self._turn:
                return await asyncio.to_thread(verify_password, password, stored)
        finally:
            self._inside -= 1

    async def hash(self, password: str) -> str:
        """As `hash_password`."""
        async with self._turn:
            return await asyncio.to_thread(hash_password, password)
