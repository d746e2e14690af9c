"""S23: guessing is slowed down, and only whoever guesses is."""

from __future__ import annotations

from typing import Any

import pytest

from osprotocol.errors import TooManyRequestsError
from osprotocol.server.identity import Gate
from osprotocol.server.throttle import BUCKETS, STARTS_AT_ONCE, STARTS_PER_S, Buckets, Throttle, address_of
from tests.server.security.world import OURS, PASSWORD, World, world


class Seconds:
    """A clock that a test moves."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def gate(it: World) -> Gate:
    found: Gate = it.app.state.identify.__self__
    return found


def tries(throttle: Throttle, address: str, name: str, count: int) -> int:
    """How many of so many wrong sign-ins are judged."""
    judged = 0
    for _ in range(count):
        try:
            throttle.begin_sign_in(address, name)
        except TooManyRequestsError:
            continue
        judged += 1
    return judged


def test_of_many_guesses_few_are_judged() -> None:
    """S23: of 10,000 guesses for one person in an hour from one address fewer than 100 are judged at all."""
    clock = Seconds()
    throttle = Throttle(clock)
    judged = 0
    for _ in range(10_000):
        clock.now += 0.36
        judged += tries(throttle, "192.0.2.1", "ann", 1)
    assert 10 <= judged < 100


def test_many_names_from_one_address_are_one_attack() -> None:
    """S23: guessing a password for 10,000 names is limited by the address."""
    clock = Seconds()
    throttle = Throttle(clock)
    assert sum(tries(throttle, "192.0.2.1", f"user-{n}", 1) for n in range(10_000)) <= 30


def test_another_address_is_not_locked_out() -> None:
    """S23: while one address, or a thousand, guess for a person, that person still has tries from another."""
    throttle = Throttle(Seconds())
    tries(throttle, "192.0.2.1", "ann", 10_000)
    assert tries(throttle, "198.51.100.7", "ann", 3) == 3
    for n in range(1_000):
        tries(throttle, f"203.0.{n // 250}.{n % 250}", "ann", 20)
    assert tries(throttle, "198.51.100.8", "ann", 20) == 3


def test_an_attack_from_many_addresses_gets_fewer_tries_each() -> None:
    """S23: when many addresses guess for one person each of them has three tries instead of ten."""
    throttle = Throttle(Seconds())
    judged = [tries(throttle, f"203.0.113.{n}", "ann", 20) for n in range(100)]
    assert judged[0] == 10
    assert judged[-1] == 3


def test_a_name_in_other_letters_is_the_same_person() -> None:
    """S23: spelling a name in other capitals or Unicode forms gives no further tries."""
    throttle = Throttle(Seconds())
    names = ("ann", "ANN", "Ann", " ann ", "\uff41nn")
    assert sum(tries(throttle, "192.0.2.1", names[n % 5], 1) for n in range(50)) == 10


def test_a_network_is_one_address() -> None:
    """S23: an IPv6 attacker has as many addresses as he wants in his network, so the network counts."""

    def scope(host: str, *headers: tuple[bytes, bytes]) -> dict[str, Any]:
        return {"client": (host, 1), "headers": list(headers)}

    assert address_of(scope("2001:db8::1"), False) == address_of(scope("2001:db8::ffff:1"), False)
    assert address_of(scope("2001:db8:0:1::1"), False) != address_of(scope("2001:db8::1"), False)
    assert address_of(scope("::ffff:192.0.2.1"), False) == "192.0.2.1"


def test_what_a_client_says_about_its_address_counts_only_behind_a_proxy() -> None:
    """S23: X-Forwarded-For is not looked at, except for what our own proxy on this machine added last."""

    def scope(host: str, *values: bytes) -> dict[str, Any]:
        return {"client": (host, 1), "headers": [(b"x-forwarded-for", value) for value in values]}

    assert address_of(scope("192.0.2.1", b"198.51.100.1"), False) == "192.0.2.1"
    assert address_of(scope("192.0.2.1", b"198.51.100.1"), True) == "192.0.2.1"
    assert address_of(scope("127.0.0.1", b"198.51.100.1"), False) == "127.0.0.1"
    assert address_of(scope("127.0.0.1", b"10.0.0.1, 198.51.100.1"), True) == "198.51.100.1"
    assert address_of(scope("127.0.0.1", b"10.0.0.1", b"198.51.100.2"), True) == "198.51.100.2"
    assert address_of(scope("127.0.0.1", b"x" * 10_000), True) == "127.0.0.1"


def test_memory_is_bounded() -> None:
    """S23: a million addresses and names leave a bounded number of entries behind."""
    throttle = Throttle(Seconds(), bound=100)
    for n in range(5_000):
        tries(throttle, f"192.0.{n // 250}.{n % 250}", f"user-{n}", 1)
        throttle.stranger_failed(str(n))
        throttle.check_request(f"token {n}", "GET", "/api/v1/runs")
    assert throttle.remembered() <= 9 * 100
    assert BUCKETS <= 100_000


def test_tries_come_back_with_time() -> None:
    """S23: who waits as long as told may try again; a right password makes the wrong ones before forgotten."""
    clock = Seconds()
    throttle = Throttle(clock)
    tries(throttle, "192.0.2.1", "ann", 50)
    with pytest.raises(TooManyRequestsError) as refused:
        throttle.begin_sign_in("192.0.2.1", "ann")
    clock.now += refused.value.retry_after_s
    throttle.begin_sign_in("192.0.2.1", "ann")
    throttle.signed_in("192.0.2.1", "ann")
    assert tries(throttle, "192.0.2.1", "ann", 5) == 5


def test_a_bucket_holds_its_rate() -> None:
    """A steady asker gets the rate, a burst gets what the bucket holds, and the wait that is told is enough."""
    clock = Seconds()
    buckets = Buckets(STARTS_PER_S, STARTS_AT_ONCE, clock)
    given = 0
    for _ in range(10_000):
        if not buckets.wait_s("x"):
            buckets.take("x")
            given += 1
    assert given == STARTS_AT_ONCE
    clock.now += buckets.wait_s("x")
    assert buckets.wait_s("x") == 0
    given = 0
    for _ in range(10_000):
        clock.now += 0.001
        if not buckets.wait_s("x"):
            buckets.take("x")
            given += 1
    assert 0 <= given - 10 * STARTS_PER_S <= STARTS_PER_S + 1


async def test_guessing_is_refused_over_http_with_the_time_to_wait() -> None:
    """S23: the page says when to try again, judges nothing meanwhile, and the true user signs in from elsewhere."""
    async with world() as it, it.http(address="192.0.2.1") as thief, it.http(address="198.51.100.1") as owner:
        await it.add_person("ann", "viewer", password=True)
        tries(gate(it).throttle, "192.0.2.1", "ann", 100)
        form = {"name": "ann", "password": PASSWORD}
        answers = [await thief.post("/sign-in", data=form, headers=OURS) for _ in range(200)]
        assert {answer.status_code for answer in answers} == {429}
        right = answers[-1]
        assert int(right.headers["retry-after"]) >= 1
        assert "set-cookie" not in right.headers
        good = await owner.post("/sign-in", data={"name": "ann", "password": PASSWORD}, headers=OURS)
        assert good.status_code == 303


async def test_guessing_links_is_refused() -> None:
    """S23: after some wrong links an address is told to wait, and a link of somebody else still works elsewhere."""
    async with world() as it, it.http(address="192.0.2.1") as thief:
        statuses = [
            (await thief.post("/sign-in", data={"code": f"guess-{n}"}, headers=OURS)).status_code for n in range(40)
        ]
        assert statuses[0] == 401
        assert statuses[-1] == 429
        assert statuses.count(401) <= 20
        await (await it.browser("viewer", address="198.51.100.1")).aclose()


async def test_guessing_tokens_is_refused() -> None:
    """S23: an address that sends many wrong tokens or cookies is told to wait; others are not."""
    async with world() as it, it.http(address="192.0.2.1") as thief:
        statuses = []
        for n in range(100):
            headers = {"Authorization": f"Bearer osp_{n:012d}_{'0' * 52}"}
            statuses.append((await thief.get("/api/v1/me", headers=headers)).status_code)
        assert statuses[0] == 401
        assert statuses[-1] == 429
        assert statuses.count(401) <= 61
        async with it.http("viewer", address="198.51.100.1") as other:
            assert (await other.get("/api/v1/me")).status_code == 200


async def test_a_principal_that_asks_too_often_is_told_when_to_ask_again() -> None:
    """Requests are counted for each token by itself, starts apart from reads, and the answer is a problem with 429."""
    async with world() as it, it.http("operator") as http, it.http("viewer") as other:
        clock = Seconds()
        gate(it).throttle = Throttle(clock)
        token = next(token for token in it.books.tokens("operator"))
        for _ in range(int(STARTS_AT_ONCE)):
            gate(it).throttle.check_request(f"token {token.id}", "POST", "/api/v1/runs")
        body = {"workflow": "guarded", "input": "x"}
        refused = await http.post("/api/v1/runs", json=body)
        assert (refused.status_code, refused.json()["code"]) == (429, "too-many-requests")
        assert refused.headers["retry-after"] == "1"
        assert (await http.get("/api/v1/runs")).status_code == 200
        assert (await other.get("/api/v1/runs")).status_code == 200
        clock.now += 1
        assert (await http.post("/api/v1/runs", json=body)).status_code == 201


async def test_failed_sign_ins_do_not_fill_the_audit_log() -> None:
    """S23: failures of a known person are recorded, a bounded number of them; a guessed name is not."""
    throttle = Throttle(Seconds())
    assert sum(throttle.notes_failure() for _ in range(10_000)) == 100
