"""All commands together, and what becomes of their errors: one line, one exit code, never a traceback."""

from __future__ import annotations

import os
import sys
from contextlib import suppress
from typing import Any

from typer.exceptions import Abort, TyperException

# Each module registers its commands; this is the order of `osp --help`.
from osprotocol.cli import start, reading, watching, people, steering, working, upkeep  # noqa: F401, I001
from osprotocol.cli.command import app
from osprotocol.cli.exits import CommandError, ExitCode, exit_code_of
from osprotocol.cli.output import clean, say, to_json
from osprotocol.errors import OSProtocolError

_PIPE_CLOSED = 141


def invoke(arguments: list[str]) -> int:
    """Run one command line; gives its exit code."""
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")
    as_json = "--json" in arguments
    try:
        code = app(args=arguments, prog_name="osp", standalone_mode=False)
        sys.stdout.flush()
        return int(code or 0)
    except TyperException as error:
        _tell("usage", clean(error.format_message() or "see 'osp --help'"), as_json)
        return ExitCode.USAGE
    except (OSProtocolError, CommandError) as error:
        _tell(error.code, clean(error), as_json, _facts(error))
        return exit_code_of(error)
    except (KeyboardInterrupt, Abort, EOFError):
        return ExitCode.INTERRUPTED
    except BrokenPipeError:
        # Whoever read our output has gone. Python would complain once more while flushing at exit.
        with suppress(OSError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return _PIPE_CLOSED
    except OSError as error:
        _tell("operating-system", clean(f"{error.filename or 'osp'}: {error.strerror or error}"), as_json)
        return ExitCode.ENGINE


def _facts(error: OSProtocolError | CommandError) -> dict[str, Any]:
    facts = {"runId": getattr(error, "run_id", None), "requestId": getattr(error, "request_id", None)}
    problems = [{"path": path, "message": message} for path, message in getattr(error, "problems", ())]
    return {name: value for name, value in {**facts, "problems": problems}.items() if value}


def _tell(code: str, message: str, as_json: bool, facts: dict[str, Any] | None = None) -> None:
    say(to_json({"code": code, "message": message, **(facts or {})}) if as_json else f"osp: {' '.join(message.split())}")
