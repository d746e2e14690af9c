"""Runs one block of the documents as a user would: as a script, `await` at the top level allowed."""

import ast
import asyncio
import inspect
import sys
from pathlib import Path
from typing import Any


def main() -> None:
    path = Path(sys.argv[1])
    flags = ast.PyCF_ALLOW_TOP_LEVEL_AWAIT
    code = compile(path.read_text(encoding="utf-8"), str(path), "exec", flags=flags, dont_inherit=True)
    names: dict[str, Any] = {"__name__": "__main__", "__file__": str(path)}
    sys.modules["__main__"].__dict__.update(names)
    result = eval(code, sys.modules["__main__"].__dict__)
    if inspect.iscoroutine(result):
        asyncio.run(result)


if __name__ == "__main__":
    main()
