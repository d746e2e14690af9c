"""All commands together, and what becomes of their errors: one line, one exit code, never a traceback."""

from __future__ import annotations

import os
import sys
from contextlib import suppress
from io import TextIOWrapper
from typing import Any

from typer.exceptions import Abort, TyperException

# Importing a module registers its commands.
import osprotocol.cli.accounts
import osprotocol.cli.people
import osprotocol.cli.reading
import osprotocol.cli.serving
import osprotocol.cli.start
import osprotocol.cli.steering
import osprotocol.cli.upkeep
import osprotocol.cli.watching
import osprotocol.cli.working  # noqa: F401
from osprotocol.cli.command import app as app
from osprotocol.cli.exits import CommandError, ExitCode, PipeClosedError, exit_code_of
from osprotocol.cli.output import clean, say, to_json
from osprotocol.errors import OSProtocolError

_ORDER = (
    "run", "list", "show", "logs", "events", "watch",
    "inbox", "approve", "reject", "respond",
    "pause", "resume", "cancel", "retry", "fork",
    "serve", "worker", "workers", "evict", "workflows",
    "delete", "backup", "prune", "doctor",
)  # fmt: skip
app.registered_commands.sort(key=lambda one: _ORDER.index(one.name or ""))


def invoke(arguments: list[str]) -> int:
    """Run one command line; gives its exit code."""
    _fill_closed_streams()
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    as_json = "--json" in arguments
    for argument in arguments:
        if not argument.isascii() and any("\ud800" <= character <= "\udfff" for character in argument):
            _tell("usage", f"argument {clean(argument)!r} is not UTF-8 text", as_json)
            return ExitCode.USAGE
    try:
        code = app(args=arguments, prog_name="osp", standalone_mode=False)
        if sys.stdout is not None:
            sys.stdout.flush()
        return int(code or 0)
    except TyperException as error:
        if type(error).__name__ == "NoArgsIsHelpError":
            say(error.format_message())
        else:
            _tell("usage", f"{clean(error.format_message()).removesuffix('.')}; see 'osp --help'", as_json)
        return ExitCode.USAGE
    except (OSProtocolError, CommandError) as error:
        _tell(error.code, clean(error), as_json, _facts(error))
        return exit_code_of(error)
    except (KeyboardInterrupt, Abort, EOFError):
        return ExitCode.INTERRUPTED
    except (BrokenPipeError, PipeClosedError):
        # Python would complain once more while flushing at exit.
        with suppress(OSError, ValueError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return ExitCode.PIPE_CLOSED
    except OSError as error:
        _tell("operating-system", clean(f"{error.filename or 'osp'}: {error.strerror or error}"), as_json)
        return ExitCode.ENGINE
    except Exception as error:
        if os.environ.get("OSP_TRACEBACK") == "1":
            raise
        message = f"unexpected {type(error).__name__}: {error}; OSP_TRACEBACK=1 shows where"
        _tell("unexpected", clean(message), as_json)
        return ExitCode.ENGINE


def _fill_closed_streams() -> None:
    """Put /dev/null where a standard stream is closed, so that no file or lock of ours gets its number."""
    for descriptor in range(3):
        try:
            os.fstat(descriptor)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # the lowest free number, which is this one


def _facts(error: OSProtocolError | CommandError) -> dict[str, Any]:
    facts = {"runId": getattr(error, "run_id", None), "requestId": getattr(error, "request_id", None)}
    problems = [{"path": path, "message": message} for path, message in getattr(error, "problems", ())]
    return {name: value for name, value in {**facts, "problems": problems}.items() if value}


def _tell(code: str, message: str, as_json: bool, facts: dict[str, Any] | None = None) -> None:
    line = " ".join(message.split())
    say(to_json({"code": code, "message": line, **(facts or {})}) if as_json else f"osp: {line}")
