"""The terminal: the command `osp`."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import NoReturn

_USAGE = 2
_INTERRUPTED = 130


def main(arguments: Sequence[str] | None = None) -> NoReturn:
    """Run `osp` with these arguments, by default the process's own, and exit with its code."""
    try:
        code = _invoke(list(sys.argv[1:] if arguments is None else arguments))
    except KeyboardInterrupt:
        code = _INTERRUPTED  # Ctrl-C while it still imports: there is nothing to tidy or to tell
    raise SystemExit(code)


def _invoke(arguments: list[str]) -> int:
    try:
        import rich  # noqa: F401 - only whether it is there
        import typer  # noqa: F401
    except ImportError:
        print("osp needs an extra that is not installed: pip install 'osprotocol[cli]'", file=sys.stderr)
        return _USAGE
    from osprotocol.cli.app import invoke

    return invoke(arguments)
