"""The named queries of ``sql/queries.sql``, with column lists filled in from the state's own fields."""

from __future__ import annotations

import re
from importlib.resources import files

from osprotocol._lifecycle.state import REQUEST_COLUMNS, RUN_COLUMNS

_IMMUTABLE = frozenset(
    ("key", "id", "workflow", "version", "judged", "parent", "parent_id", "position", "depth", "policy", "labels")
) | {"idempotency_key", "input_digest", "origin", "seed", "created_at"}
MUTABLE_COLUMNS = tuple(column for column in RUN_COLUMNS if column not in _IMMUTABLE)


def read_sql(name: str) -> str:
    """The text of a file in the package's sql folder."""
    return files("osprotocol._embedded.sql").joinpath(name).read_text(encoding="utf-8")


def runs_now(table: str) -> str:
    """The columns of a run as it is now. Records of steps do not touch its row, so the journal knows its event."""
    last = f"max({table}.event, (SELECT ifnull(max(number), 0) FROM journal WHERE run = {table}.key))"  # noqa: S608
    return ", ".join(last if column == "event" else f"{table}.{column}" for column in RUN_COLUMNS)


def load_queries() -> dict[str, str]:
    """Query text by name."""
    filled = {
        "{runs}": ", ".join(RUN_COLUMNS),
        "{runs_now}": runs_now("runs"),
        "{runs_values}": ", ".join("?" * len(RUN_COLUMNS)),
        "{runs_assign}": ", ".join(f"{column} = ?" for column in MUTABLE_COLUMNS),
        "{requests}": ", ".join(REQUEST_COLUMNS),
        "{requests_values}": ", ".join("?" * len(REQUEST_COLUMNS)),
    }
    text = read_sql("queries.sql")
    for mark, columns in filled.items():
        text = text.replace(mark, columns)
    found = re.findall(r"^-- name: (\w+)\n(.*?);$", text, flags=re.MULTILINE | re.DOTALL)
    return {name: query.strip() for name, query in found}


QUERIES = load_queries()
