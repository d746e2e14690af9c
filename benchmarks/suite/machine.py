"""What the figures were measured on."""

from __future__ import annotations

import os
import platform
import statistics
import sys
import time
from pathlib import Path

PROBES = 200
PAGE_BYTES = 4096
MEMORY_ONLY = frozenset({"tmpfs", "ramfs"})


def file_system(directory: Path) -> str:
    """The kind of file system that holds this directory, or "unknown" where the system does not say."""
    mounts = Path("/proc/mounts")
    if not mounts.exists():
        return "unknown"
    best, kind = "", "unknown"
    for line in mounts.read_text().splitlines():
        _, point, name, *_ = line.split()
        if len(point) >= len(best) and directory.resolve().is_relative_to(point):
            best, kind = point, name
    return kind


def sync_ms(directory: Path) -> float:
    """The median time to overwrite one page of an existing file and make it durable."""
    path = directory / "sync-probe"
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT)
    sync = getattr(os, "fdatasync", os.fsync)
    try:
        os.pwrite(descriptor, bytes(PAGE_BYTES), 0)
        os.fsync(descriptor)
        times_ms = []
        for number in range(PROBES):
            page = bytes([number]) * PAGE_BYTES
            began = time.perf_counter()
            os.pwrite(descriptor, page, 0)
            sync(descriptor)
            times_ms.append((time.perf_counter() - began) * 1000)
    finally:
        os.close(descriptor)
        path.unlink()
    return statistics.median(times_ms)


def describe(directory: Path) -> dict[str, str]:
    """Processor, memory, Python and disk, in a line each."""
    memory_bytes = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return {
        "processor": f"{_processor()}, {os.cpu_count()} cores",
        "memory": f"{memory_bytes / 2**30:.0f} GiB",
        "system": platform.system(),
        "python": f"{platform.python_implementation()} {sys.version.split()[0]}",
        "disk": f"{file_system(directory)}, {sync_ms(directory):.2f} ms to overwrite and sync one page",
    }


def _processor() -> str:
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        for line in cpuinfo.read_text().splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    return platform.processor() or platform.machine()
