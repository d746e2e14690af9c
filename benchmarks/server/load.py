"""Load on one server: open streams, runs that start, reads between them, and votes in a browser.

python benchmarks/server/load.py [--seconds 60] [--streams 200] [--rate 50] [--votes 30] [--dir DIRECTORY]

The server, with its workers, is one process; this script is another and so takes part of the two cores itself.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import os
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx2

from osprotocol import connect
from osprotocol._embedded.books import Books

FLOW = Path(__file__).with_name("flow.py")
STREAMS_A_PERSON = 6
_ID = re.compile(rb"(?:^|\n)id: (\d+)\n")


@dataclass
class Stream:
    """What one stream has seen: it must be gapless."""

    first: int = 0
    last: int = 0
    events: int = 0
    gaps: int = 0
    resets: int = 0
    rest: bytes = b""

    def feed(self, data: bytes) -> None:
        """Take what came, whole events at a time."""
        data = self.rest + data
        end = data.rfind(b"\n\n")
        if end < 0:
            self.rest = data
            return
        whole, self.rest = data[: end + 2], data[end + 2 :]
        if b"event: reset" in whole:
            self.resets += 1
        numbers = _ID.findall(whole)
        if not numbers:
            return
        first, last = int(numbers[0]), int(numbers[-1])
        if (self.last and first != self.last + 1) or last - first + 1 != len(numbers):
            self.gaps += 1
        self.first = self.first or first
        self.last = last
        self.events += len(numbers)


@dataclass
class Figures:
    """What was measured."""

    reads_ms: list[float] = field(default_factory=list)
    starts_ms: list[float] = field(default_factory=list)
    memory_mb: list[float] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)
    runs: list[str] = field(default_factory=list)
    server_cpu_s: float = 0.0
    own_cpu_s: float = 0.0


def main() -> int:
    """Measure; 1 when a stream missed something."""
    options = argparse.ArgumentParser()
    options.add_argument("--seconds", type=int, default=60)
    options.add_argument("--streams", type=int, default=200)
    options.add_argument("--rate", type=int, default=50)
    options.add_argument("--votes", type=int, default=30)
    options.add_argument("--dir", type=Path, default=Path(".bench"))
    given = options.parse_args()
    given.dir.mkdir(parents=True, exist_ok=True)
    folder = Path(tempfile.mkdtemp(prefix="server-", dir=given.dir)).resolve()
    try:
        return asyncio.run(measure(given, folder))
    finally:
        shutil.rmtree(folder, ignore_errors=True)


async def make_tokens(database: Path, people: int) -> list[str]:
    """One token for each of so many people, who may do everything."""
    tokens = []
    async with connect(database, worker=False) as client:
        books = await Books.open(client._engine)
        for number in range(people):
            await books.add_user(f"person{number}", ("operator", "approver"), by="benchmark")
            _, secret = await books.add_token(f"person{number}", "benchmark", ("operator", "approver"), by="benchmark")
            tokens.append(secret)
        await books.close()
    return tokens


async def measure(given: argparse.Namespace, folder: Path) -> int:
    """Start the server, load it, and print the figures."""
    database = folder / "runs.db"
    tokens = await make_tokens(database, -(-given.streams // STREAMS_A_PERSON) + 1)
    environment = {**os.environ, "OSP_BENCH_STEP": str(folder / "steps")}
    (folder / "steps").touch()
    command = [str(Path(sys.executable).with_name("osp")), "--db", str(database), "serve", "--port", "0", str(FLOW)]
    log = (folder / "server.log").open("wb")
    server = subprocess.Popen(command, env=environment, stdout=log, stderr=log, cwd=folder)  # noqa: ASYNC220
    try:
        address = await find_address(folder / "server.log", server)
        figures, streams = await load(given, address, tokens, server.pid)
        print(json.dumps(report(figures, streams), indent=2))
        if given.votes:
            took = await vote_in_browser(address, tokens[-1], database, folder, given.votes)
            print(json.dumps({"vote in the browser to the next step, ms": summary(took)}, indent=2))
    finally:
        server.terminate()
        server.wait(30)
    missed = [one for one in streams if one.gaps or one.resets or one.last != max(s.last for s in streams)]
    return 1 if missed or figures.errors else 0


async def find_address(log: Path, server: subprocess.Popen[bytes]) -> str:
    """The address that the server printed."""
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline and server.poll() is None:
        found = re.search(r"http://127\.0\.0\.1:\d+", log.read_text())
        if found:
            with contextlib.suppress(httpx2.HTTPError):
                async with httpx2.AsyncClient() as client:
                    if (await client.get(f"{found[0]}/readyz")).status_code == 200:
                        return found[0]
        await asyncio.sleep(0.1)
    raise SystemExit(f"the server did not start:\n{log.read_text()}")


async def load(given: argparse.Namespace, address: str, tokens: list[str], pid: int) -> tuple[Figures, list[Stream]]:
    """Open the streams, start runs at the rate, read runs meanwhile."""
    figures, streams = Figures(), [Stream() for _ in range(given.streams)]
    port = int(address.rpartition(":")[2])
    readers = [
        asyncio.create_task(follow(port, tokens[n // STREAMS_A_PERSON], stream)) for n, stream in enumerate(streams)
    ]
    await asyncio.sleep(1)
    headers = {"Authorization": f"Bearer {tokens[-1]}"}
    async with httpx2.AsyncClient(base_url=address, headers=headers, timeout=30) as client:
        before, own = cpu_s(pid), time.process_time()
        until = time.monotonic() + given.seconds
        watchers = [
            asyncio.create_task(read_runs(client, figures, until)),
            asyncio.create_task(watch_memory(pid, figures, until)),
        ]
        starting: set[asyncio.Task[None]] = set()
        began, number = time.monotonic(), 0
        while time.monotonic() < until:
            number += 1
            starting.add(task := asyncio.create_task(start_run(client, figures)))
            task.add_done_callback(starting.discard)
            await asyncio.sleep(max(0.0, began + number / given.rate - time.monotonic()))
        figures.server_cpu_s, figures.own_cpu_s = cpu_s(pid) - before, time.process_time() - own
        await asyncio.gather(*starting, *watchers)
        await quiet(client, streams)
    for reader in readers:
        reader.cancel()
    ended = await asyncio.gather(*readers, return_exceptions=True)
    figures.errors += [repr(one) for one in ended if isinstance(one, Exception)]
    return figures, streams


async def follow(port: int, token: str, stream: Stream) -> None:
    """Read one stream of all events."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port, limit=1 << 22)
    writer.write(
        f"GET /api/v1/events?after=0 HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nAccept: text/event-stream\r\n"
        f"Authorization: Bearer {token}\r\n\r\n".encode()
    )
    head = await reader.readuntil(b"\r\n\r\n")
    if b" 200 " not in head.split(b"\r\n")[0]:
        raise RuntimeError(head.split(b"\r\n")[0].decode())
    try:
        while True:
            size = int(await reader.readline(), 16)
            if size == 0:
                raise RuntimeError("the server ended the stream")
            stream.feed(await reader.readexactly(size))
            await reader.readexactly(2)
    finally:
        writer.close()


async def start_run(client: httpx2.AsyncClient, figures: Figures) -> None:
    began = time.perf_counter()
    answer = await client.post("/api/v1/runs", json={"workflow": "five_steps"})
    figures.starts_ms.append((time.perf_counter() - began) * 1_000)
    if answer.status_code != 201:
        figures.errors.append(answer.text[:200])
    else:
        figures.runs.append(answer.json()["id"])


async def read_runs(client: httpx2.AsyncClient, figures: Figures, until: float) -> None:
    while time.monotonic() < until:
        if figures.runs:
            began = time.perf_counter()
            answer = await client.get(f"/api/v1/runs/{figures.runs[-1]}")
            figures.reads_ms.append((time.perf_counter() - began) * 1_000)
            if answer.status_code != 200:
                figures.errors.append(answer.text[:200])
        await asyncio.sleep(0.02)


def cpu_s(pid: int) -> float:
    """Processor time of a process so far."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


async def watch_memory(pid: int, figures: Figures, until: float) -> None:
    while time.monotonic() < until:
        text = Path(f"/proc/{pid}/status").read_text()
        figures.memory_mb.append(int(text.split("VmRSS:")[1].split()[0]) / 1_024)
        await asyncio.sleep(1)


async def quiet(client: httpx2.AsyncClient, streams: list[Stream]) -> None:
    """Wait until every run has ended and nothing comes any more on any stream."""
    while True:
        counts = (await client.get("/api/v1/statistics")).json()["runs"]
        before = [stream.last for stream in streams]
        await asyncio.sleep(1.5)
        if not counts["in-progress"] and not counts["pending"] and before == [stream.last for stream in streams]:
            return


def summary(values: list[float]) -> dict[str, float]:
    """Median, 99th percentile and maximum."""
    ordered = sorted(values)
    return {
        "count": len(ordered),
        "p50": round(statistics.median(ordered), 2),
        "p99": round(ordered[int(len(ordered) * 0.99)], 2),
        "max": round(ordered[-1], 2),
    }


def report(figures: Figures, streams: list[Stream]) -> dict[str, Any]:
    """What there is to say about the load."""
    memory = figures.memory_mb
    return {
        "runs": len(figures.runs),
        "GET /runs/{id}, ms": summary(figures.reads_ms),
        "POST /runs, ms": summary(figures.starts_ms),
        "memory, MB": {
            "after a tenth": round(memory[len(memory) // 10]),
            "half": round(memory[len(memory) // 2]),
            "end": round(memory[-1]),
        },
        "streams": {
            "open": len(streams),
            "events on each": [min(one.events for one in streams), max(one.events for one in streams)],
            "with gaps": sum(one.gaps > 0 for one in streams),
            "reset": sum(one.resets > 0 for one in streams),
            "last event": [min(one.last for one in streams), max(one.last for one in streams)],
        },
        "processor time, s": {
            "server and workers": round(figures.server_cpu_s, 1),
            "this script": round(figures.own_cpu_s, 1),
        },
        "errors": figures.errors[:5],
    }


async def vote_in_browser(address: str, token: str, database: Path, folder: Path, votes: int) -> list[float]:
    """Milliseconds from the click on Approve to the beginning of the step behind it."""
    from playwright.async_api import async_playwright

    took: list[float] = []
    link = await sign_in_link(database, address)
    headers = {"Authorization": f"Bearer {token}"}
    async with async_playwright() as playwright, httpx2.AsyncClient(base_url=address, headers=headers) as client:
        path = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
        browser = await playwright.chromium.launch(executable_path=path, args=["--no-sandbox", "--disable-gpu"])
        page = await browser.new_page()
        await page.goto(link)
        await page.get_by_role("button", name=re.compile("sign in", re.I)).click()
        for _ in range(votes):
            run = (await client.post("/api/v1/runs", json={"workflow": "ask"})).json()["id"]
            request = None
            while request is None:
                found = (await client.get("/api/v1/requests", params={"run": run})).json()["items"]
                request = found[0]["id"] if found else None
            await page.goto(f"{address}/requests/{request}")
            known = (folder / "steps").read_text().count("\n")
            button = page.get_by_role("button", name=re.compile("^approve", re.I)).first
            await button.evaluate(
                "b => b.addEventListener('click', () => sessionStorage.setItem('clicked', performance.timeOrigin + performance.now()), true)"  # noqa: E501
            )
            await button.click()
            while (folder / "steps").read_text().count("\n") == known:  # noqa: ASYNC110 - another process writes it
                await asyncio.sleep(0.002)
            await page.get_by_text("Approved", exact=False).first.wait_for()  # the page that answers the form is there
            began = float((folder / "steps").read_text().splitlines()[-1])
            took.append(began * 1_000 - float(await page.evaluate("sessionStorage.getItem('clicked')")))
        await browser.close()
    return took


async def sign_in_link(database: Path, address: str) -> str:
    """A link that signs in a person once."""
    from datetime import UTC, datetime, timedelta

    async with connect(database, worker=False) as client:
        books = await Books.open(client._engine)
        secret = await books.open_link("person0", datetime.now(UTC) + timedelta(minutes=10))
        await books.close()
    return f"{address}/sign-in?code={secret}"


if __name__ == "__main__":
    sys.exit(main())
