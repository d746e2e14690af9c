"""Who is measured, with what settings, and in which environment."""

from __future__ import annotations

from typing import NamedTuple


class Contender(NamedTuple):
    """One column of the tables.

    Attributes:
        name: The column's title, and the name on the command line.
        family: Names several contenders at once on the command line.
        environment: The virtual environment that it runs in.
        script: Its file in the benchmarks folder.
        variant: Its settings for all phases but the fleet's.
        fleet_variant: Its settings when thousands of runs wait.
        modules: What a program that uses it imports.
        once: True for a slow contender, whose long phases run in the first round only.
    """

    name: str
    family: str
    environment: str
    script: str
    variant: str
    fleet_variant: str
    modules: str
    once: bool


FLOOR = "floor-group"
OURS = "osp"
OUR_ENVIRONMENT = "osp"

CONTENDERS = (
    Contender(FLOOR, "floor", "floor", "floor_bench.py", "group", "group", "asyncio, apsw, pydantic_core", False),
    Contender(
        "floor-inline",
        "floor",
        "floor",
        "floor_bench.py",
        "inline",
        "inline",
        "asyncio, apsw, pydantic_core",
        False,
    ),
    Contender(OURS, "osp", OUR_ENVIRONMENT, "osp_bench.py", "full", "full", "osprotocol", False),
    Contender("dbos", "dbos", "dbos", "dbos_bench.py", "shipped", "shipped", "dbos", True),
    Contender("dbos-wal", "dbos", "dbos", "dbos_bench.py", "tuned", "wal", "dbos", True),
    Contender(
        "langgraph",
        "langgraph",
        "langgraph",
        "langgraph_bench.py",
        "sync",
        "sync",
        "langgraph.graph, langgraph.checkpoint.sqlite.aio",
        True,
    ),
)

PEERS = tuple(contender.name for contender in CONTENDERS if contender.once)


def chosen(names: list[str]) -> list[Contender]:
    """The contenders of these names or families, in the order of the tables; all of them for no names.

    Raises:
        ValueError: A name is neither.
    """
    known = {contender.name for contender in CONTENDERS} | {contender.family for contender in CONTENDERS}
    unknown = sorted(set(names) - known)
    if unknown:
        raise ValueError(f"no contender is called {', '.join(unknown)}; there are {', '.join(sorted(known))}")
    return [c for c in CONTENDERS if not names or c.name in names or c.family in names]
