"""How often somebody may ask: token buckets in memory, bounded, by principal and by address."""

from __future__ import annotations

import ipaddress
import math
from collections import OrderedDict
from collections.abc import Callable, Hashable, Iterable, Mapping
from typing import Any

from osprotocol._clock import monotonic_s
from osprotocol._http.address import is_loopback
from osprotocol._lifecycle.people import identity
from osprotocol.errors import TooManyRequestsError

BUCKETS = 20_000
"""How many askers are remembered; the one that asked longest ago is forgotten first."""

READS_PER_S, READS_AT_ONCE = 200.0, 1_000.0
CHANGES_PER_S, CHANGES_AT_ONCE = 100.0, 500.0
STARTS_PER_S, STARTS_AT_ONCE = 100.0, 500.0

# Tokens and sessions that are not valid, by address: nobody mistypes those by hand.
_BAD_PER_S, _BAD_AT_ONCE = 1.0, 60.0
# Sign-ins that failed, by address and by address and person.
_ADDRESS_PER_S, _ADDRESS_AT_ONCE = 1 / 6, 30.0
_PAIR_PER_S, _PAIR_AT_ONCE = 1 / 60, 10.0
# Over all addresses. When this is used up each address has fewer tries for that person, but never none: an attack
# from elsewhere slows nobody down who knows the password.
_PERSON_PER_S, _PERSON_AT_ONCE = 1 / 10, 100.0
_PAIR_AT_ONCE_UNDER_ATTACK = 3.0
_LINK_PER_S, _LINK_AT_ONCE = 1 / 6, 20.0
# Records of failed sign-ins, so that an attack does not fill the audit log.
_NOTES_PER_S, _NOTES_AT_ONCE = 1 / 10, 100.0


class Buckets:
    """Many token buckets of one size.

    Args:
        per_s: tokens that come back in a second.
        at_once: how many there are at most.
        now: seconds of a clock that never goes back.
    """

    def __init__(
        self, per_s: float, at_once: float, now: Callable[[], float] = monotonic_s, bound: int = BUCKETS
    ) -> None:
        self.per_s = per_s
        self.at_once = at_once
        self._now = now
        self._bound = bound
        self._spent: OrderedDict[Hashable, tuple[float, float]] = OrderedDict()

    def __len__(self) -> int:
        return len(self._spent)

    def used(self, key: Hashable) -> float:
        """How many tokens are missing now."""
        spent, at = self._spent.get(key, (0.0, 0.0))
        return max(0.0, spent - (self._now() - at) * self.per_s) if spent else 0.0

    def wait_s(self, key: Hashable, at_once: float | None = None) -> int:
        """Whole seconds until a token is there; 0 when one is."""
        missing = self.used(key) + 1 - (self.at_once if at_once is None else at_once)
        return max(1, math.ceil(missing / self.per_s)) if missing > 1e-9 else 0

    def take(self, key: Hashable) -> None:
        """Use one, also one that is not there."""
        self._spent[key] = (min(self.used(key) + 1, self.at_once + 1), self._now())
        self._spent.move_to_end(key)
        while len(self._spent) > self._bound:
            self._spent.popitem(last=False)

    def check(self, key: Hashable, what: str) -> None:
        """Refuse when none is there.

        Raises:
            TooManyRequestsError: with the seconds until there is one.
        """
        wait_s = self.wait_s(key)
        if wait_s:
            raise TooManyRequestsError(what, wait_s)

    def forget(self, key: Hashable) -> None:
        """All tokens are there again."""
        self._spent.pop(key, None)


class Throttle:
    """All limits of a server on how often."""

    def __init__(self, now: Callable[[], float] = monotonic_s, bound: int = BUCKETS) -> None:
        self._reads = Buckets(READS_PER_S, READS_AT_ONCE, now, bound)
        self._changes = Buckets(CHANGES_PER_S, CHANGES_AT_ONCE, now, bound)
        self._starts = Buckets(STARTS_PER_S, STARTS_AT_ONCE, now, bound)
        self._bad = Buckets(_BAD_PER_S, _BAD_AT_ONCE, now, bound)
        self._addresses = Buckets(_ADDRESS_PER_S, _ADDRESS_AT_ONCE, now, bound)
        self._pairs = Buckets(_PAIR_PER_S, _PAIR_AT_ONCE, now, bound)
        self._persons = Buckets(_PERSON_PER_S, _PERSON_AT_ONCE, now, bound)
        self._links = Buckets(_LINK_PER_S, _LINK_AT_ONCE, now, bound)
        self._notes = Buckets(_NOTES_PER_S, _NOTES_AT_ONCE, now, bound)

    def remembered(self) -> int:
        """How many buckets are kept now."""
        return sum(len(buckets) for buckets in vars(self).values())

    def check_request(self, principal: str, method: str, path: str) -> None:
        """Count a request of a signed-in person or token.

        Raises:
            TooManyRequestsError: there were too many.
        """
        if method in ("GET", "HEAD", "OPTIONS"):
            buckets, what = self._reads, "requests"
        elif method == "POST" and path == "/api/v1/runs":
            buckets, what = self._starts, "starts"
        else:
            buckets, what = self._changes, "changes"
        buckets.check(principal, what)
        buckets.take(principal)

    def check_stranger(self, address: str) -> None:
        """Refuse an address that sent many wrong tokens or cookies.

        Raises:
            TooManyRequestsError: it did.
        """
        self._bad.check(address, "requests with a wrong token")

    def stranger_failed(self, address: str) -> None:
        """Count a wrong token or cookie."""
        self._bad.take(address)

    def begin_sign_in(self, address: str, name: str) -> None:
        """Count a try to sign in, before it is judged: those under way count too.

        Raises:
            TooManyRequestsError: too many failed from this address, for this person or for any.
        """
        self._addresses.check(address, "failed sign-ins")
        person = identity(name[:200])
        allowed = _PAIR_AT_ONCE if not self._persons.wait_s(person) else _PAIR_AT_ONCE_UNDER_ATTACK
        wait_s = self._pairs.wait_s((address, person), allowed)
        if wait_s:
            raise TooManyRequestsError("failed sign-ins", wait_s)
        self._addresses.take(address)
        self._pairs.take((address, person))
        self._persons.take(person)

    def signed_in(self, address: str, name: str) -> None:
        """The try succeeded: it does not count."""
        person = identity(name[:200])
        self._pairs.forget((address, person))
        self._addresses.forget(address)

    def notes_failure(self) -> bool:
        """Whether one more failed sign-in is to be written down."""
        if self._notes.wait_s(None):
            return False
        self._notes.take(None)
        return True

    def begin_link(self, address: str) -> None:
        """Count the use of a sign-in link.

        Raises:
            TooManyRequestsError: there were too many from this address.
        """
        self._links.check(address, "sign-in links")
        self._links.take(address)


def address_of(scope: Mapping[str, Any], behind_proxy: bool) -> str:
    """Where a request came from, as limits count it: an IPv4 address, or the network of an IPv6 one.

    Behind a reverse proxy on the same machine it is what that proxy added last; what a client wrote there itself
    stands before it and is not looked at.
    """
    peer = str((scope.get("client") or ("unknown",))[0])
    if behind_proxy and (peer == "unknown" or is_loopback(peer)):
        forwarded = _last_forwarded(scope.get("headers", ()))
        if forwarded is not None:
            peer = forwarded
    try:
        address = ipaddress.ip_address(peer)
    except ValueError:
        return peer[:64]
    if isinstance(address, ipaddress.IPv6Address):
        if address.ipv4_mapped is not None:
            return str(address.ipv4_mapped)
        return str(ipaddress.ip_network((address, 64), strict=False))
    return str(address)


def _last_forwarded(headers: Iterable[tuple[bytes, bytes]]) -> str | None:
    values = [value for name, value in headers if name == b"x-forwarded-for"]
    if not values:
        return None
    last = values[-1].decode("latin-1").rsplit(",", 1)[-1].strip()
    try:
        return str(ipaddress.ip_address(last))
    except ValueError:
        return None
