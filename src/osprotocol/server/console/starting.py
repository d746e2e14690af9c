"""Starting a run from what a person typed into the start form."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from inspect import Parameter
from typing import Any

from osprotocol import _limits
from osprotocol._ids import Ids
from osprotocol._json import encode, parse
from osprotocol.engine import Update
from osprotocol.errors import DuplicateRequestError, InvalidOptionError, InvalidValueError, UnknownWorkflowError
from osprotocol.protocol.run import RunOptions
from osprotocol.protocol.timeout import Timeout
from osprotocol.server.access import Principal
from osprotocol.server.console.entries import entries_of, read
from osprotocol.server.console.shapes import ABSENT
from osprotocol.server.identity import acting_as
from osprotocol.server.serving import Serving
from osprotocol.workflow import find_workflow

_DURATION = re.compile(r"(\d+(\.\d+)?(ms|s|min|m|h|d)\s*)+")
_PART = re.compile(r"(\d+(?:\.\d+)?)(ms|s|min|m|h|d)")
_MS = {"ms": 1, "s": 1_000, "m": 60_000, "min": 60_000, "h": 3_600_000, "d": 86_400_000}
ACTIONS = (("fail", "the run fails"), ("cancel", "the run is cancelled"), ("continue", "it is noted, the run goes on"))
_ONCE = re.compile(r"[0-9a-zA-Z]{10,80}")


@dataclass(frozen=True, slots=True)
class Wish:
    """What the form says besides the input.

    Attributes:
        labels: one ``name=value`` a line.
        timeout: for example ``1h30m``; empty for none.
        on_timeout: fail, cancel or continue.
        key: the idempotency key; empty for none.
        once: of this form, so that sending it twice starts one run.
    """

    labels: str = ""
    timeout: str = ""
    on_timeout: str = "fail"
    key: str = ""
    once: str = ""

    @classmethod
    def of(cls, entries: Mapping[str, Sequence[str]]) -> Wish:
        """What was typed in."""
        names = ("labels", "timeout", "on_timeout", "key", "once")
        return cls(**{name: (entries.get(name) or [""])[0] for name in names})

    @property
    def is_plain(self) -> bool:
        """Whether nothing was wished for."""
        return not (self.labels.strip() or self.timeout.strip() or self.key)


def new_form() -> Wish:
    """An empty wish of a new form."""
    return Wish(once=Ids().secret())


def first_entries(name: str, schema: Any) -> dict[str, list[str]]:
    """How the form begins: the workflow's own default, where this process knows it, else the schema's."""
    try:
        workflow = find_workflow(name)
    except UnknownWorkflowError:
        return entries_of(schema)
    if workflow.default is Parameter.empty:
        return entries_of(schema)
    return entries_of(schema, parse(workflow.dump_input(), "default input"))


def options_of(wish: Wish) -> tuple[RunOptions | None, list[tuple[str, str]]]:
    """The options, and the name of each field that is wrong with what is wrong."""
    problems: list[tuple[str, str]] = []
    labels: dict[str, str] = {}
    for line in filter(None, map(str.strip, wish.labels.splitlines())):
        name, sign, value = line.partition("=")
        if not sign or not name.strip():
            problems.append(("labels", f"{line[:60]!r} is not name=value"))
        labels[name.strip()] = value.strip()
    milliseconds: int | None = None
    text = wish.timeout.strip().lower()
    if text and not _DURATION.fullmatch(text):
        problems.append(("timeout", f"{wish.timeout[:40]!r} is no length of time; write 30s, 5m, 1h30m or 7d"))
    elif text:
        milliseconds = round(sum(float(number) * _MS[unit] for number, unit in _PART.findall(text)))
    action: Any = wish.on_timeout if wish.on_timeout in dict(ACTIONS) else "fail"
    for field, made in (
        ("timeout", lambda: Timeout(milliseconds or 0) if milliseconds is not None else None),
        ("labels", lambda: RunOptions(labels=labels)),
        ("key", lambda: RunOptions(idempotency_key=wish.key or None)),
    ):
        try:
            made()
        except InvalidOptionError as error:
            problems.append((field, error.problem))
    if problems:
        return None, problems
    timeout = None if milliseconds is None else Timeout(milliseconds, on_timeout=action)
    return RunOptions(timeout=timeout, labels=labels, idempotency_key=wish.key or None), []


async def start(
    here: Serving,
    who: Principal,
    name: str,
    schema: Any,
    entries: Mapping[str, Sequence[str]],
    options: RunOptions,
    once: str,
) -> str:
    """Start a run; gives its id. The same form sent again gives the same run.

    Raises:
        InvalidValueError: the input does not fit, with the path of each problem.
        UnknownWorkflowError: it cannot be started here.
    """
    data = _data(name, schema, entries)
    key = f"{who.name} form {once}" if _ONCE.fullmatch(once) else None
    try:
        with acting_as(who, reply_key=key, reply_digest=""):
            update: Update = await here.client._engine.start(name, data, options)
    except DuplicateRequestError:
        known = here.books.find_reply(key or "")
        if known is None or known.run is None:
            raise
        return str(known.run)
    return update.run_id


def _data(name: str, schema: Any, entries: Mapping[str, Sequence[str]]) -> bytes:
    """JSON of the input, as the workflow's type has it where this process knows the type."""
    value: Any = ABSENT
    if schema is not None:
        reading = read(schema, entries)
        if reading.problems:
            raise InvalidValueError(f"input of workflow {name!r}", reading.problems)
        value = reading.value
    text = encode(None if value is ABSENT else value)
    if len(text.encode()) > _limits.PAYLOAD_BYTES:
        raise InvalidValueError(f"input of workflow {name!r}", (("$", "is too large"),))
    try:
        workflow = find_workflow(name)
    except UnknownWorkflowError:
        return text.encode()
    return workflow.dump_input() if value is ABSENT else workflow.dump_input(workflow.input.load(text))
