"""Exit codes, and which error ends in which."""

from __future__ import annotations

from enum import IntEnum

from osprotocol.errors import (
    ApprovalRejectedError,
    EngineError,
    OSProtocolError,
    RunCancelledError,
    RunFailedError,
    RunNotFoundError,
    TerminalError,
    UsageError,
)


class ExitCode(IntEnum):
    """What the exit code of `osp` tells. `docs/cli.md` has the same table, made from this one."""

    SUCCESS = 0
    FAILED = 1
    USAGE = 2
    CANCELLED = 3
    NOT_FOUND = 4
    CONFLICT = 5
    ENGINE = 6
    UNFINISHED = 7
    INTERRUPTED = 130
    PIPE_CLOSED = 141

    @property
    def meaning(self) -> str:
        """One sentence about it."""
        return _MEANINGS[self]


_MEANINGS = {
    ExitCode.SUCCESS: "The command did what it was asked. For `osp run`: the run is completed.",
    ExitCode.FAILED: "The run failed. For `osp doctor`: something is wrong.",
    ExitCode.USAGE: "The command line, the target, the input or an answer is wrong.",
    ExitCode.CANCELLED: "The run was cancelled.",
    ExitCode.NOT_FOUND: "There is no such run, request, worker, workflow or database.",
    ExitCode.CONFLICT: "The state of the run or request does not allow it, a name is taken, or a person may not do it.",
    ExitCode.ENGINE: "The database, the machine under it, or `osp` itself is in trouble.",
    ExitCode.UNFINISHED: "`osp run --no-wait`: the run waits for a person and was left so.",
    ExitCode.PIPE_CLOSED: "The reader of a pipe went away, as with `head -1`.",
    ExitCode.INTERRUPTED: "Stopped by Ctrl-C. A run that was under way is left to be continued.",
}

_BY_HTTP_STATUS = {
    400: ExitCode.USAGE,
    413: ExitCode.USAGE,
    422: ExitCode.USAGE,
    501: ExitCode.USAGE,
    404: ExitCode.NOT_FOUND,
    401: ExitCode.CONFLICT,
    403: ExitCode.CONFLICT,
    409: ExitCode.CONFLICT,
}


class CommandError(Exception):
    """A command cannot go on, for a reason of the command line itself.

    Attributes:
        message: one line.
        code: stable, for ``--json``.
        exit_code: what `osp` ends with.
    """

    def __init__(self, message: str, code: str = "usage", exit_code: ExitCode = ExitCode.USAGE) -> None:
        super().__init__(message, code, exit_code)
        self.message, self.code, self.exit_code = message, code, exit_code

    def __str__(self) -> str:
        return self.message


class PipeClosedError(Exception):
    """Whoever read our standard output has gone."""


def exit_code_of(error: OSProtocolError | CommandError) -> ExitCode:
    """The exit code that an error ends in."""
    if isinstance(error, CommandError):
        return error.exit_code
    if isinstance(error, RunFailedError | TerminalError):
        return ExitCode.FAILED
    if isinstance(error, RunCancelledError | ApprovalRejectedError):
        return ExitCode.CANCELLED
    if isinstance(error, UsageError | EngineError | RunNotFoundError):
        default = ExitCode.ENGINE if isinstance(error, EngineError) else ExitCode.USAGE
        return _BY_HTTP_STATUS.get(error.http_status, default)
    return _BY_HTTP_STATUS.get(error.http_status, ExitCode.ENGINE)
