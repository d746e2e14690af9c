"""What `osp run` shows while a run goes on: a live bar in a terminal, lines otherwise, nothing with `--quiet`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from osprotocol.cli.output import clean, on_terminal, say
from osprotocol.protocol.events import LogLine
from osprotocol.protocol.run import RunSnapshot

if TYPE_CHECKING:
    from rich.progress import Progress


class Silence:
    """Shows nothing."""

    def show(self, run: RunSnapshot) -> None:
        """Show where the run stands."""

    def log(self, line: LogLine) -> None:
        """Show a line of its log."""

    def hide(self) -> None:
        """Make room for other output; the next `show` is back."""


class Lines(Silence):
    """Shows changes of status and progress as lines on standard error."""

    def __init__(self) -> None:
        self._shown = ""

    def show(self, run: RunSnapshot) -> None:
        """Write a line when status or progress changed."""
        told = f"{run.status.value}{progress_text(run)}"
        if told != self._shown and run.event:
            self._shown = told
            say(f"{run.id} {told}")

    def log(self, line: LogLine) -> None:
        """Write the log line."""
        say(log_text(line))


class Bar(Silence):
    """Shows a progress bar below the log, on standard error."""

    def __init__(self) -> None:
        self._progress: Progress | None = None
        self._task: Any = None
        self._visible = False

    def show(self, run: RunSnapshot) -> None:
        """Draw the bar as it is now; a run that has ended has none."""
        if run.status.is_final:
            return
        if self._progress is None:
            self._progress = _bars()
            self._task = self._progress.add_task("", total=None, count="")
        total = run.progress.total or None
        self._progress.update(
            self._task,
            description=bar_text(run),
            total=total,
            completed=min(run.progress.current, total) if total else 0,
            count=count_text(run),
        )
        if not self._visible:
            self._progress.start()
            self._visible = True

    def log(self, line: LogLine) -> None:
        """Write the log line above the bar."""
        if self._progress is None or not self._visible:
            say(log_text(line))
        else:
            from rich.text import Text

            self._progress.console.print(Text(log_text(line)))

    def hide(self) -> None:
        """Take the bar away and give the cursor back."""
        if self._progress is not None and self._visible:
            self._progress.stop()
            self._visible = False


def _bars() -> Progress:
    from rich.console import Console
    from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

    return Progress(
        SpinnerColumn(),
        TextColumn("{task.description}", markup=False),
        BarColumn(bar_width=30),
        TextColumn("{task.fields[count]}", markup=False),
        TimeElapsedColumn(),
        console=Console(stderr=True),
        transient=True,
        # What the workflow prints goes above the bar, unless it goes to a file anyway.
        redirect_stdout=on_terminal(),
        redirect_stderr=True,
    )


def bar_text(run: RunSnapshot) -> str:
    """What stands before a bar."""
    message = clean(run.progress.message or "")[:60]
    return f"{run.workflow} {state_text(run)}{f': {message}' if message else ''}"


def count_text(run: RunSnapshot) -> str:
    """``3/7``, or the current number alone where the total is unknown."""
    progress = run.progress
    return f"{progress.current}/{progress.total}" if progress.total else (str(progress.current or ""))


def state_text(run: RunSnapshot) -> str:
    """The status, and what it hides: a cancel under way, what is waited for."""
    if run.cancelling:
        return "cancelling"
    kinds = ", ".join(dict.fromkeys(wait.kind for wait in run.waiting_on))
    if run.status == "awaiting" and kinds:
        return f"awaiting {kinds}"
    return run.status.value + (f" ({kinds})" if kinds else "")


def progress_text(run: RunSnapshot) -> str:
    """`` 2/3 writing`` or nothing."""
    parts = [count_text(run), clean(run.progress.message or "")]
    return "".join(f" {part}" for part in parts if part)


def log_text(line: LogLine) -> str:
    """A log line as people read it; fields that have several lines, such as a traceback, stand indented below."""
    step = f" [{clean(line.step)}]" if line.step else ""
    text, below = f"{line.at:%H:%M:%S} {clean(line.level)}{step} {clean(line.message)}", ""
    for name, value in line.fields.items():
        if isinstance(value, str) and "\n" in value.rstrip("\n"):
            parts = clean(value.rstrip("\n"), lines=True).split("\n")
            below += f"\n  {clean(name)}:" + "".join(f"\n    {part}" for part in parts)
        else:
            text += f" {clean(name)}={clean(value)}"
    return text + below
