"""Run ids and deterministic randomness. The only place, with `_clock`, that reads the operating system's randomness."""

from __future__ import annotations

import hashlib
import random
import re
from uuid import UUID

from osprotocol import _limits
from osprotocol.errors import InvalidNameError

_ALPHABET = "0123456789abcdefghjkmnpqrstvwxyz"
_TIME_CHARACTERS = 9
_RANDOM_CHARACTERS = 11
_ID_PATTERN = re.compile(r"[a-z0-9][a-z0-9_-]*\Z")
_NAME_PATTERN = re.compile(r"[A-Za-z0-9_<][A-Za-z0-9_.:<>\-]*\Z")


_PAIRS = [first + second for first in _ALPHABET for second in _ALPHABET]


def _base32(number: int, characters: int) -> str:
    pairs = [_PAIRS[number >> shift & 1_023] for shift in range(10 * ((characters - 1) // 2), -1, -10)]
    return "".join(pairs)[-characters:]


class Ids:
    """Makes ids that sort by the time they were made and can be shortened to their first characters.

    Args:
        seed: makes the random part reproducible, for tests; without it the operating system's randomness is used.
    """

    def __init__(self, seed: int | None = None) -> None:
        self._random = random.SystemRandom() if seed is None else random.Random(seed)
        self._pool = 0
        self._pool_bits = 0

    def bits(self, count: int) -> int:
        """That many random bits; drawn from a pool so that one id does not cost one system call."""
        if self._pool_bits < count:
            self._pool = self._random.getrandbits(4_096)
            self._pool_bits = 4_096
        self._pool_bits -= count
        value = self._pool & ((1 << count) - 1)
        self._pool >>= count
        return value

    def fraction(self) -> float:
        """A random number from 0 up to, not including, 1."""
        return self.bits(53) / (1 << 53)

    def secret(self) -> str:
        """256 random bits as 52 characters: what only its holder may know."""
        return _base32(self.bits(256), 52)

    def token_id(self) -> str:
        """The id of a token, which is no secret: 12 characters."""
        return _base32(self.bits(60), 12)

    def run_id(self, now: int) -> str:
        """A new run id: 20 characters, the first nine the time in milliseconds."""
        return _base32(now // 1_000, _TIME_CHARACTERS) + _base32(self.bits(5 * _RANDOM_CHARACTERS), _RANDOM_CHARACTERS)


def derived_id(*parts: str) -> str:
    """The id that these parts always give: for idempotency keys and child runs."""
    digest = hashlib.sha256("\x00".join(parts).encode()).digest()
    return _base32(int.from_bytes(digest[:13], "big"), _TIME_CHARACTERS + _RANDOM_CHARACTERS)


def derived_uuid(seed: str, position: str) -> UUID:
    """The version 4 UUID that a run's seed gives at a position of its code."""
    digest = hashlib.sha256(f"uuid\x00{seed}\x00{position}".encode()).digest()
    return UUID(bytes=digest[:16], version=4)


def derived_fraction(seed: str, position: str) -> float:
    """The number from 0 up to, not including, 1 that a run's seed gives at a position of its code."""
    digest = hashlib.sha256(f"random\x00{seed}\x00{position}".encode()).digest()
    return (int.from_bytes(digest[:8], "big") >> 11) / (1 << 53)


def check_id(value: str, what: str = "run id") -> str:
    """The id itself, if it is one.

    Raises:
        InvalidNameError: empty, too long, or with characters that no id has.
    """
    return _check(value, what, _limits.ID_CHARACTERS, _ID_PATTERN, "lower-case letters, digits, '-' and '_'")


def check_name(value: str, what: str) -> str:
    """The name of a workflow or step itself, if it is one.

    Raises:
        InvalidNameError: empty, too long, or with characters outside ASCII letters, digits and ``_ . : -``.
    """
    return _check(value, what, _limits.NAME_CHARACTERS, _NAME_PATTERN, "ASCII letters, digits and _ . : -")


def _check(value: object, what: str, characters: int, pattern: re.Pattern[str], allowed: str) -> str:
    if not isinstance(value, str):
        raise InvalidNameError(what, repr(value)[:60], "it is not text")
    if not value:
        raise InvalidNameError(what, value, "it is empty")
    if len(value) > characters:
        raise InvalidNameError(what, value[:40] + "…", f"it has {len(value)} characters, the limit is {characters}")
    if not pattern.match(value):
        raise InvalidNameError(what, value, f"only {allowed} are allowed")
    return value
