"""The command reference of `docs/cli.md`, made from the commands themselves.

``python -m osprotocol.cli.reference docs/cli.md`` brings the file up to date.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from typer.main import get_command

from osprotocol.cli import app  # importing it registers the commands
from osprotocol.cli.exits import ExitCode

BEGIN = "<!-- made by python -m osprotocol.cli.reference; do not edit below -->"
END = "<!-- end -->"
_BAR = "\\|"
_SHARED = ("--db", "--json", "--help")


def reference() -> str:
    """Exit codes and all commands as Markdown."""
    lines = ["## Exit codes", "", "| Code | Meaning |", "|---|---|"]
    lines += [f"| {code.value} | {code.meaning} |" for code in ExitCode]
    lines += ["", "## Commands", "", "Every command also takes `--db PATH`, `--json` and `--help`.", ""]
    root: Any = get_command(app.app)
    for name in root.list_commands(None):
        lines += _command(root.commands[name])
    return "\n".join(lines)


def _command(command: Any, group: str = "") -> list[str]:
    if hasattr(command, "commands"):
        within = [_command(one, f"{group}{command.name} ") for one in command.commands.values()]
        return [line for lines in within for line in lines]
    arguments = [one for one in command.params if one.param_type_name == "argument"]
    options = [one for one in command.params if one.param_type_name == "option" and one.opts[0] not in _SHARED]
    words = " ".join(["osp", group + command.name, *(one.metavar or one.name.upper() for one in arguments)])
    lines = [f"### `{words}{' [OPTIONS]' if options else ''}`", "", command.help.strip(), ""]
    rows = [(one.metavar, one.help) for one in arguments]
    rows += [(_names(one), one.help + _default(one)) for one in options]
    if rows:
        lines += ["| | |", "|---|---|"]
        lines += [f"| `{name.replace('|', _BAR)}` | {text} |" for name, text in rows]
        lines.append("")
    return lines


def _names(option: Any) -> str:
    names = ", ".join([*reversed(option.opts), *option.secondary_opts])
    return names if option.is_flag else f"{names} {option.metavar or 'NUMBER'}"


def _default(option: Any) -> str:
    value = option.default
    return f" Default: {value}." if value != "" and isinstance(value, str | int) and not isinstance(value, bool) else ""


def updated(text: str) -> str:
    """The document with the reference as it is now."""
    head, _, rest = text.partition(BEGIN)
    return f"{head}{BEGIN}\n\n{reference()}\n{END}{rest.partition(END)[2]}"


if __name__ == "__main__":
    document = Path(sys.argv[1])
    document.write_text(updated(document.read_text(encoding="utf-8")), encoding="utf-8")
