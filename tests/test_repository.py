"""The repository's own rules, those that no other tool checks. Each fails with the places that break it."""

import ast
import builtins
import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
SRC = ROOT / "src" / "osprotocol"

MAX_FILE_LINES = 450
LONGEST_FILE_LINES = 750
MAX_FUNCTION_LINES = 70
COUNTED_SUFFIXES = {".py", ".sql", ".html", ".js", ".css"}

# Where the world may be asked: paths in src/osprotocol, or folders ending in a slash.
ASKS_TIME = ("_clock.py", "testing/")
ASKS_CHANCE = ("_clock.py", "_ids.py", "testing/")
ASKS_SECRETS = (*ASKS_CHANCE, "server/")

TIME = re.compile(
    r"time\.(time|time_ns|monotonic|monotonic_ns|perf_counter|perf_counter_ns|gmtime|localtime|ctime|sleep)"
    r"|datetime\.(datetime|date)\.(now|utcnow|today)"
    r"|asyncio\.get_(running|event)_loop\(\)\.time|<local>\.(.*[._])?loop\.time"
)
CHANCE = re.compile(r"uuid\.uuid[14678]|random(\..+)?|os\.urandom")
SECRETS = re.compile(r"secrets(\..+)?")
UNSAFE = re.compile(
    r"eval|exec|(pickle|marshal|shelve|dill|cloudpickle|jsonpickle)(\..+)?"
    r"|os\.(system|popen)|yaml\.(load|unsafe_load)|subprocess\.(getoutput|getstatusoutput)"
    r"|asyncio\.create_subprocess_shell"
)

# The pure room: given the same state and command it decides the same, so it may not reach outside.
NOT_PURE = {
    "apsw", "asyncio", "concurrent", "contextvars", "io", "logging", "multiprocessing", "os", "pathlib",
    "queue", "random", "secrets", "selectors", "shutil", "signal", "socket", "sqlite3", "subprocess",
    "tempfile", "threading", "time",
}  # fmt: skip

# A dependency stays behind its door: the paths or folders in src/osprotocol that may import it.
DOORS = {
    "apsw": ("_embedded/", "_restate/", "testing/"),
    "typer": ("cli/",),
    "click": ("cli/",),
    "rich": ("cli/",),
    "fastapi": ("server/",),
    "starlette": ("server/",),
    "uvicorn": ("server/", "cli/", "testing/", "_restate/"),
    "httpx2": ("_http/", "_restate/"),
    "jinja2": ("server/",),
    "restate": ("_restate/",),
}

TEXT_SUFFIXES = {".py", ".sql", ".md", ".toml", ".txt", ".html", ".js", ".css", ".json", ".sh", ".cfg", ""}
NOT_OURS = {"__pycache__", "node_modules"}
HOME_PATH = re.compile(r"(?<![\w./~}])/(?:root|home|Users|work|mnt|opt)/[\w.-]+")
INSTALL_FILES = (
    "pyproject.toml",
    "constraints.txt",
    "Makefile",
    ".ci/run",
    ".ci/lock",
    ".ci/check_wheel.py",
    ".ci/restate/package.json",
    ".ci/restate/package-lock.json",
)
NAMES_AN_INDEX = re.compile(r"--?(extra-)?index(-url)?\b|find-links|trusted-host|\w+://|PIP_\w*INDEX\w*")


@dataclass(frozen=True)
class Function:
    """A function's place and its length without its docstring."""

    place: str
    lines: int


def file_lengths() -> dict[str, int]:
    return {
        inside(path): len(path.read_text(encoding="utf-8").splitlines())
        for path in SRC.rglob("*")
        if path.suffix in COUNTED_SUFFIXES
    }


def test_no_source_file_is_too_long() -> None:
    assert not {path: lines for path, lines in file_lengths().items() if lines > LONGEST_FILE_LINES}


def test_nine_files_in_ten_are_short() -> None:
    lengths = file_lengths()
    long = {path: lines for path, lines in lengths.items() if lines > MAX_FILE_LINES}
    assert len(long) * 10 <= len(lengths), long


def test_at_most_one_function_in_a_hundred_is_long() -> None:
    functions = [function for path in sources() for function in functions_of(path)]
    long = [function for function in functions if function.lines > MAX_FUNCTION_LINES]
    assert len(long) * 100 <= len(functions), long


def test_only_the_clock_asks_for_the_time() -> None:
    assert not uses_outside(TIME, ASKS_TIME)


def test_only_ids_and_clock_ask_for_chance() -> None:
    assert not uses_outside(CHANCE, ASKS_CHANCE)
    assert not uses_outside(SECRETS, ASKS_SECRETS)


def test_data_is_never_run_as_code() -> None:
    assert not uses_outside(UNSAFE, ())
    shells = [
        place(path, node)
        for path in sources()
        for node in ast.walk(tree_of(path))
        if isinstance(node, ast.keyword) and node.arg == "shell" and ast.unparse(node.value) != "False"
    ]
    assert not shells


def test_the_lifecycle_is_pure() -> None:
    reaching = [
        f"{where} imports {module}"
        for path in sources()
        if inside(path).startswith("_lifecycle/")
        for where, module in imports_of(path)
        if module.split(".")[0] in NOT_PURE
    ]
    assert not reaching


def test_each_dependency_stays_behind_its_door() -> None:
    strays = [
        f"{where} imports {module}"
        for path in sources()
        for where, module in imports_of(path)
        if (doors := DOORS.get(module.split(".")[0])) is not None and not inside(path).startswith(doors)
    ]
    assert not strays


def test_no_file_names_a_folder_of_somebodys_machine() -> None:
    found = [
        f"{path.relative_to(ROOT)}:{number}: {match.group()}"
        for path in own_texts()
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1)
        for match in HOME_PATH.finditer(line)
    ]
    assert not found


def test_installing_uses_the_index_that_the_machine_is_set_up_with() -> None:
    found = [
        f"{name}: {match.group()}"
        for name in INSTALL_FILES
        for match in NAMES_AN_INDEX.finditer((ROOT / name).read_text(encoding="utf-8"))
    ]
    assert not found


def test_every_constraint_is_an_exact_version() -> None:
    lines = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    loose = [line for line in lines if not re.fullmatch(r"#.*|[\w.-]+==[\w.]+", line)]
    assert not loose


def test_the_rules_see_through_aliases() -> None:
    code = """
import asyncio, random, time as t
from datetime import datetime
from time import monotonic as m

Job(created_at=t.time, started_at=m(), ended_at=datetime.now(), due=datetime(2026, 1, 1))
asyncio.get_running_loop().time(), self._loop.time(), self.time(), clock.now()
random.Random(), self.random(), uuid
eval("1"), connection.exec()
"""
    used = {name for _, name in names_of(ast.parse(code))}
    assert {name for name in used if TIME.fullmatch(name)} == {
        "time.time",
        "time.monotonic",
        "datetime.datetime.now",
        "asyncio.get_running_loop().time",
        "<local>.self._loop.time",
    }
    assert {name for name in used if CHANCE.fullmatch(name)} == {"random", "random.Random"}
    assert {name for name in used if UNSAFE.fullmatch(name)} == {"eval"}


@cache
def sources() -> tuple[Path, ...]:
    return tuple(sorted(SRC.rglob("*.py")))


@cache
def tree_of(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"), filename=str(path))


def inside(path: Path) -> str:
    return path.relative_to(SRC).as_posix()


def place(path: Path, node: ast.AST) -> str:
    return f"{inside(path)}:{getattr(node, 'lineno', '?')}"


def own_texts() -> Iterator[Path]:
    """Every text file of the project that a person wrote, except this one."""
    for top in sorted(ROOT.iterdir()):
        if top.name in {".git", ".venv", ".bench", ".hypothesis"} or top.name.endswith("_cache"):
            continue
        for path in [top] if top.is_file() else top.rglob("*"):
            ours = path != Path(__file__) and not NOT_OURS & set(path.relative_to(ROOT).parts)
            if ours and path.suffix in TEXT_SUFFIXES and path.is_file():
                yield path


def functions_of(path: Path) -> Iterator[Function]:
    for node in ast.walk(tree_of(path)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            assert node.end_lineno is not None
            lines = node.end_lineno - node.lineno + 1
            if ast.get_docstring(node) is not None:
                docstring = node.body[0]
                assert docstring.end_lineno is not None
                lines -= docstring.end_lineno - docstring.lineno + 1
            yield Function(f"{place(path, node)} {node.name}", lines)


def imports_of(path: Path) -> Iterator[tuple[str, str]]:
    """Where a file imports which module, by its full name."""
    for node in ast.walk(tree_of(path)):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield place(path, node), alias.name
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            yield place(path, node), node.module or ""


def uses_outside(banned: re.Pattern[str], allowed: tuple[str, ...]) -> list[str]:
    """Where files other than the allowed ones use a name that matches."""
    return [
        f"{place(path, node)} uses {name}"
        for path in sources()
        if not inside(path).startswith(allowed)
        for node, name in names_of(tree_of(path))
        if banned.fullmatch(name)
    ]


def names_of(tree: ast.Module) -> Iterator[tuple[ast.AST, str]]:
    """Each name or dotted name that the code mentions, called or not, as its full name whatever its alias.

    A name that is neither imported nor built in starts with `<local>.`.
    """
    full_name_by_alias: dict[str, str] = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                full_name_by_alias[alias.asname or alias.name.split(".")[0]] = (
                    alias.name if alias.asname else alias.name.split(".")[0]
                )
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            for alias in node.names:
                full_name_by_alias[alias.asname or alias.name] = f"{node.module}.{alias.name}"
    for node in ast.walk(tree):
        if isinstance(node, ast.Name | ast.Attribute) and isinstance(node.ctx, ast.Load):
            first, separator, rest = ast.unparse(node).partition(".")
            unknown = first if hasattr(builtins, first) else f"<local>.{first}"
            yield node, full_name_by_alias.get(first, unknown) + separator + rest
