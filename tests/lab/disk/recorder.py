"""A VFS that writes down everything that is asked of the disk, in order, under SQLite and the engine as they are.

It inherits the system's own VFS, so locks, shared memory and the write-ahead log work as always. What does not go
through SQLite (renames, folders and their syncs) is seen where `os` is asked for it.
"""

from __future__ import annotations

import contextlib
import itertools
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Literal, NamedTuple
from unittest import mock

import apsw

_JOURNALS = apsw.SQLITE_OPEN_MAIN_JOURNAL | apsw.SQLITE_OPEN_WAL
_KEPT = apsw.SQLITE_OPEN_MAIN_DB | _JOURNALS
_numbers = itertools.count(1)

Kind = Literal["write", "truncate", "sync", "enter", "leave", "move", "sync folder", "commit", "fact", "effect"]


class Op(NamedTuple):
    """One thing that was asked of the disk, or that somebody was told.

    Attributes:
        kind: ``write``, ``truncate`` and ``sync`` are of a file; ``enter``, ``leave``, ``move`` and ``sync folder`` of
            names in folders; ``commit``, ``fact`` and ``effect`` are the world's and change nothing on the disk.
        file: number of the file, which stays the same when its name changes; 0 for a folder.
        offset: where the bytes go, or the new length.
        data: the bytes.
        name: below the root; for ``move`` the old one.
        about: the new name, or what the world was told.
    """

    kind: Kind
    file: int = 0
    offset: int = 0
    data: bytes = b""
    name: str = ""
    about: Any = None


class Recorder:
    """A folder whose disk is recorded.

    Attributes:
        ops: everything in order.
        vfs: name of the VFS to open databases with; inside `recording` it is also the default.
    """

    def __init__(self, root: Path) -> None:
        self.root = Path(os.path.realpath(root))
        self.ops: list[Op] = []
        self.vfs = f"recording-{os.getpid()}-{next(_numbers)}"
        self._files: dict[str, int] = {}
        self._next = itertools.count(1)

    def name_of(self, path: str | os.PathLike[str]) -> str | None:
        """The name below the root; None for what is elsewhere."""
        full = os.path.realpath(os.path.dirname(os.fspath(path))) + "/" + os.path.basename(os.fspath(path))
        prefix = f"{self.root}/"
        return full[len(prefix) :] if full.startswith(prefix) else None

    def add(
        self, kind: Kind, file: int = 0, offset: int = 0, data: bytes = b"", name: str = "", about: Any = None
    ) -> None:
        self.ops.append(Op(kind, file, offset, data, name, about))

    def entered(self, name: str) -> int:
        """The number of the file of that name, which may be new."""
        if name not in self._files:
            self._files[name] = next(self._next)
            self.add("enter", self._files[name], name=name)
            content = (self.root / name).read_bytes() if (self.root / name).exists() else b""
            if content:
                self.add("write", self._files[name], 0, content)
        return self._files[name]

    def settle(self) -> None:
        """Everything that was done so far is on the disk, as after hours."""
        for name, file in self._files.items():
            self.add("sync", file)
            self.add("sync folder", name=folder_of(name))
        self.add("sync folder", name="")

    # ------------------------------------------------------------------ what happens to names

    def left(self, name: str | None) -> None:
        if name is not None and self._files.pop(name, None) is not None:
            self.add("leave", name=name)

    def moved(self, name: str | None, to: str | None) -> None:
        if name is not None and to is not None and name in self._files:
            self._files[to] = self._files.pop(name)
            self.add("move", self._files[to], name=name, about=to)

    def made(self, name: str | None) -> None:
        if name is not None:
            self.add("enter", name=name)

    def synced(self, descriptor: int) -> None:
        """A descriptor was synced past SQLite: a folder's, or a file's."""
        path = os.readlink(f"/proc/self/fd/{descriptor}")
        if Path(path) == self.root:
            self.add("sync folder", name="")
            return
        name = self.name_of(path)
        if name is not None and os.path.isdir(path):
            self.add("sync folder", name=name)
        elif name is not None and name in self._files:
            self.add("sync", self._files[name])

    # ------------------------------------------------------------------ recording

    @contextlib.contextmanager
    def recording(self) -> Iterator[None]:
        """As long as this lasts, every database that is opened below the root is recorded."""
        before = apsw.vfs_names()[0]
        vfs = _RecordingVFS(self)
        apsw.set_default_vfs(self.vfs)
        try:
            with self._watching_os():
                yield
        finally:
            apsw.set_default_vfs(before)
            vfs.unregister()

    @contextlib.contextmanager
    def _watching_os(self) -> Iterator[None]:
        with contextlib.ExitStack() as stack:

            def watch(name: str, seen: Callable[..., None]) -> None:
                real = getattr(os, name)

                def wrapped(*arguments: Any, **options: Any) -> Any:
                    done = real(*arguments, **options)
                    seen(*arguments)
                    return done

                stack.enter_context(mock.patch.object(os, name, wrapped))

            watch("rename", lambda old, new, *_: self.moved(self.name_of(old), self.name_of(new)))
            watch("replace", lambda old, new, *_: self.moved(self.name_of(old), self.name_of(new)))
            watch("unlink", lambda path, *_: self.left(self.name_of(path)))
            watch("mkdir", lambda path, *_: self.made(self.name_of(path)))
            watch("fsync", self.synced)
            yield


def folder_of(name: str) -> str:
    """The folder that a name is in; empty for the root."""
    return name.rpartition("/")[0]


class _RecordingVFS(apsw.VFS):
    def __init__(self, recorder: Recorder) -> None:
        self._recorder = recorder
        super().__init__(recorder.vfs, "unix")

    def xOpen(self, name: str | apsw.URIFilename | None, flags: list[int]) -> apsw.VFSFile:
        path = name.filename() if isinstance(name, apsw.URIFilename) else name
        known = None if path is None or not flags[0] & _KEPT else self._recorder.name_of(path)
        if known is None:
            return apsw.VFSFile("unix", name or "", flags)
        return _RecordedFile(self._recorder, known, name or "", flags)

    def xDelete(self, filename: str, syncdir: bool) -> None:
        super().xDelete(filename, syncdir)
        name = self._recorder.name_of(filename)
        if name is not None:
            self._recorder.left(name)
            if syncdir:
                self._recorder.add("sync folder", name=folder_of(name))


class _RecordedFile(apsw.VFSFile):
    def __init__(self, recorder: Recorder, known: str, name: str | apsw.URIFilename, flags: list[int]) -> None:
        # SQLite syncs the folder with the first sync of a log or journal that it may have made.
        self._syncs_folder = bool(flags[0] & _JOURNALS and flags[0] & apsw.SQLITE_OPEN_CREATE)
        super().__init__("unix", name, flags)
        self._recorder = recorder
        self._name = known
        self._file = recorder.entered(known)

    def xWrite(self, data: Any, offset: int) -> None:
        super().xWrite(data, offset)
        self._recorder.add("write", self._file, offset, bytes(data))

    def xTruncate(self, newsize: int) -> None:
        super().xTruncate(newsize)
        self._recorder.add("truncate", self._file, newsize)

    def xSync(self, flags: int) -> None:
        super().xSync(flags)
        self._recorder.add("sync", self._file)
        if self._syncs_folder:
            self._syncs_folder = False
            self._recorder.add("sync folder", name=folder_of(self._name))
