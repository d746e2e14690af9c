"""What a page says when something went wrong: for people, with a way on. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from urllib.parse import quote

from osprotocol.errors import (
    EngineError,
    NotPermittedError,
    OSProtocolError,
    RequestNotFoundError,
    RunNotFoundError,
    TooManyRequestsError,
    UnknownWorkflowError,
)

_SHOWN = 80
_SECTIONS = {
    "inbox": ("/inbox", "Inbox"),
    "requests": ("/inbox", "Inbox"),
    "runs": ("/runs", "All runs"),
    "workflows": ("/workflows", "Workflows"),
    "audit": ("/audit", "Audit"),
    "settings": ("/settings", "Settings"),
}


@dataclass(frozen=True, slots=True)
class Trouble:
    """What went wrong.

    Attributes:
        title: in few words.
        text: a sentence or two more.
        code: for those who look it up.
        ways: where to go on, as address and words; the best first.
    """

    title: str
    text: str
    code: str
    ways: tuple[tuple[str, str], ...]


def trouble_of(error: OSProtocolError, path: str) -> Trouble:
    """An error in words for whoever looks at a page.

    Args:
        error: what happened.
        path: of the address that was asked for.
    """
    title, text = _in_words(error, path)
    code = f"{error.http_status} {error.code}" if error.code != "usage" else str(error.http_status)
    return Trouble(title, text, code, _ways(error, path))


def _in_words(error: OSProtocolError, path: str) -> tuple[str, str]:
    said = str(error)
    match error:
        case RunNotFoundError():
            return (
                f"There is no run {_short(error.run_id)}",
                "It was deleted, or never was here, or you may not see it.",
            )
        case RequestNotFoundError():
            return (
                f"There is no request {_short(error.request_id)}",
                "Its run was deleted, or it never was here, or you may not see it.",
            )
        case UnknownWorkflowError():
            return (
                f"There is no workflow {_short(error.name)} to start",
                "This server was not started with it, or you may not see it. Its runs may be here all the same.",
            )
        case NotPermittedError():
            return "You may not do that", _sentence(said)
        case TooManyRequestsError():
            return "Too fast", _sentence(said)
        case EngineError():
            return "The server cannot do that just now", _sentence(said)
        case _ if error.http_status == 404 and error.code == "usage":
            return "There is no such page", f"Nothing is at {path[:_SHOWN]}."
        case _ if error.http_status == 404:
            return "It is not here", _sentence(said)
        case _ if error.http_status == 405:
            return "That is not possible here", "The address is right, the way of asking for it is not."
        case _:
            return "That did not work", _sentence(said)


def _short(name: str) -> str:
    return f"“{name}”" if len(name) <= _SHOWN else f"“{name[:_SHOWN]}…”"


def _sentence(text: str) -> str:
    return f"{text[:1].upper()}{text[1:]}{'' if text.endswith('.') else '.'}"


def _ways(error: OSProtocolError, path: str) -> tuple[tuple[str, str], ...]:
    parts = path.strip("/").split("/")
    ways: list[tuple[str, str]] = []
    if len(parts) > 2 and error.code == "usage":
        thing = {"runs": "The run", "requests": "The request", "workflows": "The workflow"}.get(parts[0])
        if thing is not None:
            ways.append((f"/{parts[0]}/{quote(parts[1], safe='')}", thing))
    ways += [_SECTIONS[parts[0]]] if parts[0] in _SECTIONS else []
    return (*ways, ("/", "Home"))
