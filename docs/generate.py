"""Writes the generated parts of the documents from the code: `python docs/generate.py` (or `make docs`).

Everything between ``<!-- generated: NAME -->`` and ``<!-- end -->`` is replaced. A test fails when a part is not
current.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from osprotocol._embedded.engine import EmbeddedEngine  # noqa: E402
from osprotocol._http.engine import HttpEngine  # noqa: E402
from osprotocol._restate.engine import RestateEngine  # noqa: E402
from osprotocol.errors import OSProtocolError  # noqa: E402
from osprotocol.protocol.run import FINAL_STATUSES, RunStatus  # noqa: E402
from osprotocol.server.reference import reference  # noqa: E402
from tests.lab import guarantees  # noqa: E402
from tests.lifecycle.situations import COMMANDS, ENGINE, PEOPLE, SITUATIONS, outcome  # noqa: E402
from tests.wire.error_samples import SAMPLES  # noqa: E402

_PART = re.compile(r"(<!-- generated: (\w+) -->\n).*?(<!-- end -->)", re.DOTALL)
_SHOWN = (
    "claim",
    "ask",
    "stand still",
    "park",
    "complete",
    "fail",
    "timer",
    "worker died",
    "child ended",
    "child waits",
)


def table(head: list[str], rows: list[list[str]]) -> str:
    """A Markdown table."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines) + "\n"


def _cell(situation: str, command: str) -> str:
    found = outcome(situation, command)
    if found.startswith("! "):
        return f"refused: `{found[2:]}`"
    words = [word for word in found.split(", ") if word not in ("ready", "no event")]
    return ", ".join(words)


def commands(names: list[str]) -> str:
    """Every situation by these commands."""
    head = ["situation", "status", *names]
    return table(
        head,
        [
            [situation, make().state.status.value, *(_cell(situation, name) for name in names)]
            for situation, make in SITUATIONS.items()
        ],
    )


def diagram() -> str:
    """The statuses and what leads from one to another, collected from every situation and command."""
    arrows: dict[tuple[str, str], list[str]] = {}
    for name, make in COMMANDS.items():
        for make_story in SITUATIONS.values():
            story = make_story()
            before = story.state.status
            try:
                story.do(make(story))
            except OSProtocolError:
                continue
            after = story.state.status
            known = arrows.setdefault((before, after), [])
            if before is not after and name not in known:
                known.append(name)
    lines = ["```mermaid", "stateDiagram-v2", "    [*] --> pending: start"]
    order = [status.value for status in RunStatus]
    for (before_name, after_name), names in sorted(arrows.items(), key=lambda one: [order.index(x) for x in one[0]]):
        if names:
            source, target = (name.replace("-", "_") for name in (before_name, after_name))
            lines.append(f"    {source} --> {target}: {' · '.join(names)}")
    lines += [f"    {status.value} --> [*]" for status in RunStatus if status in FINAL_STATUSES]
    return "\n".join([*lines, "```"]) + "\n"


def errors() -> str:
    """Every error: code, HTTP status, class, meaning, and what it says."""
    rows = []
    for sample in SAMPLES:
        found = type(sample)
        meaning = (found.__doc__ or "").splitlines()[0]
        rows.append([f"`{found.code}`", str(found.http_status), f"`{found.__name__}`", meaning, str(sample)])
    return table(["code", "HTTP", "class", "meaning", "says, for example"], rows)


_ABILITIES = {
    "callbacks": "Functions in `RunOptions` are called (by the process that started the run)",
    "backup": "`osp backup`: everything into one file while work goes on",
    "workers": "`osp workers`: who works",
    "evict": "`osp evict`: take the runs away from a worker that hangs",
    "live_logs": "Log lines arrive while a run executes",
}


def engines() -> str:
    """The table of what each engine can do, from its own declaration."""
    kinds = (EmbeddedEngine, RestateEngine, HttpEngine)
    assert all(set(_ABILITIES) == set(kind.capabilities) for kind in kinds), "each capability has its words here"
    rows = [
        [words, *("yes" if kind.capabilities[name] else "no" for kind in kinds)] for name, words in _ABILITIES.items()
    ]
    return table(["", "Embedded", "Restate", "Over HTTP, of a server with either"], rows)


PARTS: dict[str, Callable[[], str]] = {
    "people": lambda: commands(list(PEOPLE)),
    "engine": lambda: commands([name for name in ENGINE if name in _SHOWN]),
    "diagram": diagram,
    "engines": engines,
    "errors": errors,
    "http": reference,
    "lab": guarantees.figures,
    **{name: partial(guarantees.held_by, name) for name in guarantees.HELD},
}


def generated(text: str) -> str:
    """The document with its generated parts as the code makes them now."""
    return _PART.sub(lambda found: f"{found[1]}\n{PARTS[found[2]]()}\n{found[3]}", text)


def documents() -> list[Path]:
    """The documents that have generated parts."""
    return [path for path in sorted((ROOT / "docs").glob("*.md")) if _PART.search(path.read_text(encoding="utf-8"))]


if __name__ == "__main__":
    for document in documents():
        old = document.read_text(encoding="utf-8")
        new = generated(old)
        if new != old:
            document.write_text(new, encoding="utf-8")
            print(f"{document.relative_to(ROOT)}: written anew")  # noqa: T201
