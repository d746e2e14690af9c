"""What a workflow awaits although its context did not make it: told with file and line, or refused if it is strict."""

from __future__ import annotations

import asyncio
import types
import warnings
from typing import TYPE_CHECKING, Any

from osprotocol.errors import ForeignAwaitError

if TYPE_CHECKING:
    from osprotocol._embedded.attempt import Attempt


def foreign_await(attempt: Attempt, coroutine: Any, awaited: Any) -> Exception | None:
    """The code awaits something that its context did not make: tell it, or give the error for a strict workflow."""
    if attempt.unwinding:
        return None
    place, what = where(coroutine), name_of(awaited)
    error = ForeignAwaitError(attempt.workflow.name, place, what)
    if attempt.workflow.strict:
        return error
    if place not in attempt.foreign_told:
        attempt.foreign_told.add(place)
        warnings.warn(str(error), RuntimeWarning, stacklevel=2)
        attempt.worker.log(attempt, "warning", str(error), None, {})
    return None


def name_of(awaited: Any) -> str:
    if awaited is None:
        return "a bare yield (asyncio.sleep(0))"
    return f"a {type(awaited).__name__} that its context did not make (asyncio.sleep, asyncio.gather, a socket ...)"


def where(coroutine: Any) -> str:
    """File and line at which a suspended coroutine's own code waits."""
    place = "unknown"
    while coroutine is not None:
        frame = getattr(coroutine, "cr_frame", None) or getattr(coroutine, "gi_frame", None)
        if frame is None:
            break
        file = frame.f_code.co_filename
        # The conformance suite's workflows are users' code, although they are shipped with us.
        inside_us = file.startswith(_OUR_FOLDER) and not file.startswith(_OUR_FOLDER + "testing/")
        inside_asyncio = frame.f_code.co_filename.startswith(_ASYNCIO_FOLDER)
        if not inside_us and not inside_asyncio:
            place = f"{frame.f_code.co_filename}:{frame.f_lineno}"
        following = getattr(coroutine, "cr_await", None) or getattr(coroutine, "gi_yieldfrom", None)
        coroutine = following if isinstance(following, types.CoroutineType | types.GeneratorType) else None
    return place


_OUR_FOLDER = __file__.rpartition("/")[0].rpartition("/")[0] + "/"
_ASYNCIO_FOLDER = asyncio.__file__.rpartition("/")[0] + "/"
