"""From ``module:workflow`` or ``file.py:workflow`` on the command line to the workflow."""

from __future__ import annotations

import importlib
import importlib.util
import sys
import traceback
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

from osprotocol.cli.exits import CommandError, ExitCode
from osprotocol.errors import OSProtocolError
from osprotocol.workflow import Workflow, known_workflows

_CODE = "target"


def load_workflow(target: str) -> Workflow[Any, Any]:
    """The one workflow that a target names.

    Raises:
        CommandError: the module cannot be imported, or does not have it, or has several and none was named.
    """
    place, name = _split(target)
    module = _load(place)
    if name is not None:
        found = getattr(module, name, None)
        if not isinstance(found, Workflow):
            found = known_workflows().get(name)
        if found is None:
            raise CommandError(
                f"{place} has no workflow {name!r}; it has {_names(_own(module))}", _CODE, ExitCode.NOT_FOUND
            )
        return found
    own = _own(module)
    if len(own) != 1:
        raise CommandError(f"{place} has {_names(own)}; name one: {place}:WORKFLOW", _CODE)
    return own[0]


def load_workflows(targets: Sequence[str]) -> list[Workflow[Any, Any]]:
    """The workflows of several targets; a target without a name means all of its module.

    Raises:
        CommandError: a target has none.
    """
    found: dict[str, Workflow[Any, Any]] = {}
    for target in targets:
        place, name = _split(target)
        own = [load_workflow(target)] if name is not None else _own(_load(place))
        if not own:
            raise CommandError(f"{place} has no workflow; decorate one with @workflow", _CODE, ExitCode.NOT_FOUND)
        found.update((one.name, one) for one in own)
    return [found[name] for name in sorted(found)]


def _split(target: str) -> tuple[str, str | None]:
    place, sign, name = target.rpartition(":")
    if not sign:
        place, name = target, ""
    if not place or (sign and not name):
        raise CommandError(f"{target!r} is no target; write module:workflow or file.py:workflow", _CODE)
    return place, name or None


def _own(module: ModuleType) -> list[Workflow[Any, Any]]:
    """The workflows in a module: its own, else those that it imported."""
    there = {one.name: one for one in vars(module).values() if isinstance(one, Workflow)}
    own = [one for one in there.values() if one.function.__module__ == module.__name__]
    return own or list(there.values())


def _names(workflows: Sequence[Workflow[Any, Any]]) -> str:
    return "the workflows " + ", ".join(one.name for one in workflows) if workflows else "no workflow"


def _load(place: str) -> ModuleType:
    try:
        return _import_file(Path(place)) if place.endswith(".py") else _import_module(place)
    except (OSProtocolError, CommandError):
        raise
    except ModuleNotFoundError as error:
        if error.name is not None and place.startswith(error.name):
            raise CommandError(f"there is no module {place!r} here", _CODE, ExitCode.NOT_FOUND) from None
        raise _broken(place, error) from None
    except KeyboardInterrupt:
        raise
    except BaseException as error:  # noqa: BLE001 - the user's module may raise anything, SystemExit too
        raise _broken(place, error) from None


def _broken(place: str, error: BaseException) -> CommandError:
    frames = traceback.extract_tb(error.__traceback__)
    last = frames[-1] if frames else None
    where = f" at {last.filename}:{last.lineno}" if last is not None and "importlib" not in last.filename else ""
    if isinstance(error, SyntaxError):
        where = f" at {error.filename}:{error.lineno}"
    text = error.msg if isinstance(error, SyntaxError) else str(error)
    return CommandError(f"{place} cannot be imported: {type(error).__name__}: {text}{where}", _CODE)


def _import_module(name: str) -> ModuleType:
    here = str(Path.cwd())
    if here not in sys.path:
        sys.path.insert(0, here)
    return importlib.import_module(name)


def _import_file(path: Path) -> ModuleType:
    if not path.is_file():
        raise CommandError(f"there is no file {path}", _CODE, ExitCode.NOT_FOUND)
    path = path.resolve()
    name = path.stem
    loaded = sys.modules.get(name)
    if loaded is not None:
        if getattr(loaded, "__file__", None) == str(path):
            return loaded
        name = f"osp_target_{name}"
    folder = str(path.parent)
    if folder not in sys.path:
        sys.path.insert(0, folder)  # so that the file can import its neighbours, as when Python runs it
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None, "a .py file always has a spec"
    assert spec.loader is not None, "a .py file always has a loader"
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[name]
        raise
    return module
