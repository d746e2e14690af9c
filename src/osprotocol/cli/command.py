"""How a function becomes a command: every one gets `--db` and `--json`, before or after its name."""

from __future__ import annotations

import asyncio
import functools
import inspect
from collections.abc import Callable
from typing import Annotated, Any, TypeVar

import typer

from osprotocol.cli.exits import CommandError, PipeClosedError
from osprotocol.cli.session import Session

F = TypeVar("F", bound=Callable[..., Any])

Db = Annotated[
    list[str] | None,
    typer.Option(
        "--db",
        "--url",
        metavar="PATH",
        help="Database file, or URL of a server. Default: OSP_URL, else the nearest .osp/runs.db.",
    ),
]
Json = Annotated[bool, typer.Option("--json", help="Print the wire form: one JSON object, or one per line.")]

app = typer.Typer(
    name="osp",
    help="Durable workflow runs: start, watch, pause, answer, cancel, retry.",
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _print_version(wanted: bool) -> None:
    if wanted:
        from osprotocol import __version__
        from osprotocol.cli.output import write

        write(f"osprotocol {__version__}")
        raise typer.Exit


@app.callback()
def settings(
    context: typer.Context,
    db: Db = None,
    json: Json = False,
    version: Annotated[
        bool, typer.Option("--version", help="Print the version and exit.", is_eager=True, callback=_print_version)
    ] = False,
) -> None:
    """Durable workflow runs: start, watch, pause, answer, cancel, retry."""
    context.obj = Session(_one(db), json)


def _one(places: list[str] | None) -> str | None:
    """The place that was named; `--db` and `--url` are two words for the same.

    Raises:
        CommandError: several were named, so that one of them would be ignored.
    """
    named = list(dict.fromkeys(places or ()))
    if len(named) > 1:
        raise CommandError(f"--db and --url name one place together, these are {len(named)}: {', '.join(named)}")
    return named[0] if named else None


def group(name: str, help: str) -> typer.Typer:
    """A command that has commands: `command` takes it as `within`."""
    made = typer.Typer(
        help=help,
        no_args_is_help=True,
        rich_markup_mode=None,
        context_settings={"help_option_names": ["-h", "--help"]},
    )
    app.add_typer(made, name=name)
    return made


def command(name: str, within: typer.Typer = app) -> Callable[[F], F]:
    """Make a function, whose first parameter is the `Session`, the command of that name. It may be async."""

    def decorate(function: F) -> F:
        own = list(inspect.signature(function, eval_str=True).parameters.values())[1:]
        signature = inspect.Signature(
            [
                inspect.Parameter("context", inspect.Parameter.KEYWORD_ONLY, annotation=typer.Context),
                *(parameter.replace(kind=inspect.Parameter.KEYWORD_ONLY) for parameter in own),
                inspect.Parameter("db", inspect.Parameter.KEYWORD_ONLY, default=None, annotation=Db),
                inspect.Parameter("json", inspect.Parameter.KEYWORD_ONLY, default=False, annotation=Json),
            ]
        )

        @functools.wraps(function)
        def invoke(context: typer.Context, db: list[str] | None, json: bool, **values: Any) -> Any:
            given: Session = context.obj
            session = Session(_one(db) or given.url, json or given.json)
            try:
                if inspect.iscoroutinefunction(function):
                    return asyncio.run(function(session, **values))
                return function(session, **values)
            except BrokenPipeError:
                raise PipeClosedError from None  # Typer would make exit code 1 of it, a failed run

        invoke.__signature__ = signature  # type: ignore[attr-defined]
        invoke.__annotations__ = {name: one.annotation for name, one in signature.parameters.items()}
        del invoke.__wrapped__
        within.command(name)(invoke)
        return function

    return decorate
