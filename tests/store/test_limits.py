"""Limits, ids and names: what is over or unusable is refused with an error that says so."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from osprotocol import ApprovalConfig, Context, RunOptions, Timeout, connect, step, workflow
from osprotocol import _limits as limits
from osprotocol._ids import Ids, check_id, check_name, derived_id
from osprotocol.errors import (
    IdempotencyConflictError,
    InvalidNameError,
    InvalidOptionError,
    LimitExceededError,
    OSProtocolError,
    RunNotFoundError,
)

BAD_NAMES = [
    "", " ", "a b", "a/b", "../a", "a\\b", "a\x00b", "a\n", "x" * (limits.NAME_CHARACTERS + 1), "-a", ".",
    "p\u0430y",  # a Cyrillic letter that looks like an a
    "\uff50ay", "pay\u200b", "pay\u202e", "caf\u00e9", "\U0001f600",
]  # fmt: skip


@workflow(name="limits-asks")
async def asks(ctx: Context, prompt: str) -> str:
    return await ctx.wait_for_input(prompt)


@workflow(name="limits-nothing")
async def nothing(ctx: Context, text: str) -> str:
    return text


async def any_context(ctx: Context) -> None:
    """A function to make workflows of."""


@pytest.mark.parametrize("name", BAD_NAMES)
def test_a_name_that_could_be_mistaken_is_refused(name: str) -> None:
    """For workflows and steps alike: empty, too long, with slashes, NUL, spaces or look-alikes."""
    with pytest.raises(InvalidNameError) as caught:
        check_name(name, "workflow name")
    assert "\n" not in str(caught.value)
    if name:
        with pytest.raises(InvalidNameError):
            workflow(name=name)(any_context)
        with pytest.raises(InvalidNameError):
            step(name=name)(any_context)


@pytest.mark.parametrize("name", ["a", "publish", "shop.orders:publish-v2", "_x", "x" * limits.NAME_CHARACTERS])
def test_an_ordinary_name_is_taken(name: str) -> None:
    """ASCII letters, digits and a few signs."""
    assert check_name(name, "step name") == name


@pytest.mark.parametrize("value", [*BAD_NAMES, "A", "a.b", "a:b", None, 3])
def test_an_id_that_could_be_mistaken_is_refused(value: Any) -> None:
    """Lower-case ASCII, digits, - and _ only."""
    with pytest.raises(InvalidNameError):
        check_id(value)


def test_made_ids_are_ids() -> None:
    """They sort by time and pass the check."""
    ids = Ids(seed=1)
    made = [ids.run_id(now * 1_000) for now in range(1_700_000_000_000, 1_700_000_000_050)]
    assert made == sorted(made)
    assert len(set(made)) == 50
    assert all(check_id(one) == one for one in (*made, derived_id("publish", "key")))


def test_parts_of_a_derived_id_do_not_run_together() -> None:
    """The border between them counts."""
    assert derived_id("ab", "c") != derived_id("a", "bc")
    assert derived_id("a", "b") == derived_id("a", "b")


@pytest.mark.parametrize("run_id", ["", "none", "../x", "a\x00b", "%", "_", "*", "x" * 1_000, "\ud800"])
async def test_a_run_that_does_not_exist_is_not_found(tmp_path: Path, run_id: str) -> None:
    """Whatever was asked for; a sign that databases treat as a wildcard is none."""
    async with connect(tmp_path / "runs.db", worker=False) as client:
        await client.create_run(nothing, "x").start()
        with pytest.raises(OSProtocolError) as caught:
            await client.get(run_id)
        assert isinstance(caught.value, RunNotFoundError | InvalidNameError)


OPTIONS: list[tuple[Callable[[], Any], str]] = [
    (lambda: Timeout(ms=limits.DURATION_MS + 1), "DURATION_MS"),
    (lambda: RunOptions(labels={f"l{n}": "x" for n in range(limits.LABELS_PER_RUN + 1)}), "LABELS_PER_RUN"),
    (lambda: RunOptions(labels={"a": "x" * (limits.LABEL_VALUE_CHARACTERS + 1)}), "LABEL_VALUE_CHARACTERS"),
    (lambda: ApprovalConfig(approvers=[f"p{n}" for n in range(limits.APPROVERS_PER_REQUEST + 1)]), "APPROVERS_PER"),
    (
        lambda: RunOptions(idempotency_key="x" * (limits.IDEMPOTENCY_KEY_CHARACTERS + 1)),
        "RunOptions.idempotency_key: .* at most 256",
    ),
    (lambda: RunOptions(idempotency_key="a\x00"), "idempotency_key: .*pattern"),
    (lambda: RunOptions(labels={"": "x"}), "label name ''"),
    (lambda: RunOptions(labels={"a=b": "x"}), "label name 'a=b'"),
    (lambda: Timeout(ms=0), "at least 1"),
    (lambda: Timeout(ms=True), "whole milliseconds"),
]


@pytest.mark.parametrize(("make", "named"), OPTIONS)
def test_an_option_over_a_limit_names_it(make: Callable[[], Any], named: str) -> None:
    """When the option is made, not when the run is started."""
    with pytest.raises(InvalidOptionError, match=named):
        make()


@pytest.mark.parametrize("limit", [0, -1, limits.PAGE_SIZE + 1])
async def test_a_page_size_over_the_limit_names_it(tmp_path: Path, limit: int) -> None:
    """Lists and the inbox."""
    async with connect(tmp_path / "runs.db", worker=False) as client:
        for ask in (client.list, client.requests):
            with pytest.raises(InvalidOptionError, match="PAGE_SIZE = 200"):
                await ask(limit=limit)


@pytest.mark.parametrize("cursor", ["", "x", "-1", "1.5", "9" * 19, "\u0661"])
async def test_a_cursor_that_no_page_gave_is_refused(tmp_path: Path, cursor: str) -> None:
    """It is an option like any other."""
    async with connect(tmp_path / "runs.db", worker=False) as client:
        with pytest.raises(InvalidOptionError, match="cursor"):
            await client.list(cursor=cursor)


async def test_texts_are_limited_by_name(tmp_path: Path) -> None:
    """Reasons, inputs and answers."""
    long = "x" * (limits.TEXT_CHARACTERS + 1)
    async with connect(tmp_path / "runs.db", worker=False) as client:
        execution = await client.create_run(nothing, "x").start()
        for call in (execution.pause, execution.cancel):
            with pytest.raises(LimitExceededError, match="TEXT_CHARACTERS is 16,384"):
                await call(long)
        with pytest.raises(LimitExceededError, match="TEXT_CHARACTERS"):
            await execution.wait_for_approval(long)
        with pytest.raises(LimitExceededError, match="PAYLOAD_BYTES is 1,048,576"):
            client.create_run(nothing, "x" * limits.PAYLOAD_BYTES)
        with pytest.raises(LimitExceededError, match="PAYLOAD_BYTES"):
            await execution.respond("x" * limits.PAYLOAD_BYTES)


async def test_an_idempotency_key_gives_the_same_run(tmp_path: Path) -> None:
    """The same key and input: the same run. Another input: a conflict."""
    options = RunOptions(idempotency_key="order-17")
    async with connect(tmp_path / "runs.db", worker=False) as client:
        first = await client.create_run(nothing, "x", options).start()
        second = await client.create_run(nothing, "x", options).start()
        assert first.id == second.id
        with pytest.raises(IdempotencyConflictError, match="order-17"):
            await client.create_run(nothing, "y", options).start()


async def test_a_lone_surrogate_is_refused_wherever_text_goes_in(tmp_path: Path) -> None:
    """It is no text: reasons, names and prompts are refused with an error of ours, ids and filters find nothing."""
    bad = "\ud800"
    async with connect(tmp_path / "runs.db", worker=False) as client:
        execution = await client.create_run(nothing, "x").start()
        calls: list[Callable[[], Any]] = [
            lambda: execution.pause(bad),
            lambda: execution.pause(by=bad),
            lambda: execution.cancel(bad),
            lambda: execution.approve(by=bad),
            lambda: execution.respond("x", request_id=bad),
            lambda: execution.wait_for_approval(bad),
            lambda: client.find_request(bad),
            lambda: client.create_run(nothing, "x", RunOptions(labels={"a": bad})).start(),
        ]
        for call in calls:
            with pytest.raises(OSProtocolError):
                await call()
        assert (await client.list(text=bad)).items == ()
        assert execution.status.value == "pending"
