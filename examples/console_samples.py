"""Workflows as offices know them, and a few runs of each in every state: what `make serve` shows in the console.

    python examples/console_samples.py             make the runs in .osp/console, once; each call adds what moves
    osp serve --db .osp/console/runs.db examples/console_samples.py examples/release_notes.py

Everything is real: the commits and documents of this checkout go in; pages, ledgers and databases come out in
.osp/console/files. Nothing leaves the machine. Without commits, as in an unpacked archive, there are fewer samples.
"""

from __future__ import annotations

import argparse
import asyncio
import html
import json
import os
import re
import sqlite3
import sys
from collections.abc import Awaitable, Callable
from contextlib import closing
from datetime import date, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any, Literal

from pydantic import AnyUrl, BaseModel, Field
from release_notes import ReleaseInput, git, release_notes, resolves

from osprotocol import (
    ApprovalConfig,
    Client,
    Context,
    Execution,
    Retry,
    RunOptions,
    RunStatus,
    TerminalError,
    connect,
    current_step,
    step,
    workflow,
)
from osprotocol.errors import OSProtocolError

ROOT = Path(__file__).resolve().parent.parent
FOLDER = Path(os.environ.get("CONSOLE_SAMPLES", ROOT / ".osp" / "console"))
DATABASE = FOLDER / "runs.db"
FILES = FOLDER / "files"


def file_for_writing(name: str) -> Path:
    FILES.mkdir(parents=True, exist_ok=True)
    return FILES / name


# ------------------------------------------------------------------------------------------- an invoice to pay

LIMIT = Decimal(1_000)


class Line(BaseModel):
    text: str = Field(min_length=1, max_length=200)
    quantity: int = Field(ge=1, le=10_000)
    price: float = Field(ge=0, le=1_000_000)


class Invoice(BaseModel):
    supplier: str = Field(min_length=1, max_length=120)
    number: str = Field(min_length=1, max_length=40, description="As printed on the invoice")
    total: float = Field(gt=0, le=1_000_000)
    currency: Literal["EUR", "CHF", "USD"] = "EUR"
    iban: str = Field(
        title="IBAN", pattern=r"^[A-Z]{2}[0-9]{2}[A-Z0-9 ]{10,34}$", description="Account of the supplier"
    )
    due: date
    lines: list[Line] = Field(min_length=1, max_length=50)


class Payment(BaseModel):
    invoice: str
    amount: str
    entry: int


def money(amount: float | Decimal, currency: str) -> str:
    return f"{Decimal(str(amount)):,.2f} {currency}"


def shown(invoice: Invoice) -> dict[str, Any]:
    """An invoice as those who decide about it read it."""
    lines = [[line.text, line.quantity, money(line.price, invoice.currency)] for line in invoice.lines]
    return {
        "supplier": invoice.supplier,
        "invoice": invoice.number,
        "total": money(invoice.total, invoice.currency),
        "account": invoice.iban,
        "due": invoice.due.isoformat(),
        "lines": [dict(zip(("text", "quantity", "price"), line, strict=True)) for line in lines],
    }


@step
def check_invoice(invoice: Invoice) -> str:
    """The lines add up to the total, and the account number is one."""
    total = sum((Decimal(str(line.price)) * line.quantity for line in invoice.lines), Decimal(0))
    if total != Decimal(str(invoice.total)):
        shown = money(total, invoice.currency)
        raise TerminalError(f"the lines add up to {shown}, the invoice says {money(invoice.total, invoice.currency)}")
    plain = invoice.iban.replace(" ", "")
    digits = "".join(str(int(character, 36)) for character in plain[4:] + plain[:4])
    if int(digits) % 97 != 1:
        raise TerminalError(f"{invoice.iban} is no account number: its check digits are wrong, ask {invoice.supplier}")
    return f"{len(invoice.lines)} lines add up, the account number is valid"


@step
def enter_payment(invoice: Invoice, agreed_by: list[str]) -> int:
    """One line in the ledger, once, whatever dies. Gives its number."""
    key = current_step().idempotency_key
    with closing(sqlite3.connect(file_for_writing("ledger.db"))) as ledger, ledger:
        ledger.execute("CREATE TABLE IF NOT EXISTS payments (key TEXT UNIQUE, number TEXT, total TEXT, agreed_by TEXT)")
        row = (key, invoice.number, str(invoice.total), ", ".join(agreed_by))
        ledger.execute("INSERT OR IGNORE INTO payments VALUES (?, ?, ?, ?)", row)
        number: int = ledger.execute("SELECT rowid FROM payments WHERE key = ?", (key,)).fetchone()[0]
    return number


@workflow
async def pay_invoice(ctx: Context, invoice: Invoice) -> Payment:
    """Check an invoice and enter its payment; from 1,000 on two people have to agree."""
    amount = money(invoice.total, invoice.currency)
    ctx.report_progress(0, 3, "checking the invoice")
    ctx.log(await ctx.step(check_invoice, invoice))
    agreed_by: list[str] = []
    if Decimal(str(invoice.total)) >= LIMIT:
        ctx.report_progress(1, 3, "two people have to agree")
        approval = await ctx.wait_for_approval(
            f"Pay {amount} to {invoice.supplier}?",
            ApprovalConfig(required_approvals=2, timeout_ms=timedelta(days=3)),
            payload=shown(invoice),
        )
        approval.require()
        agreed_by = [response.by for response in approval.responses]
    ctx.report_progress(2, 3, "entering the payment")
    entry = await ctx.step(enter_payment, invoice, agreed_by)
    ctx.report_progress(3, 3, f"entered as payment {entry}")
    return Payment(invoice=invoice.number, amount=amount, entry=entry)


# ---------------------------------------------------------------------------------------- an article to publish


class Article(BaseModel):
    file: str = Field(pattern=r"^[\w/-]+\.md$", max_length=200, description="A Markdown file of this project")


class Publication(BaseModel):
    title: str = Field(min_length=3, max_length=80)
    summary: str = Field(min_length=10, max_length=400, description="Two sentences for the overview page")
    publish_on: date = Field(description="The day on which it appears")
    audience: Literal["everybody", "customers", "staff"]
    channels: list[Literal["website", "newsletter", "intranet"]] = Field(min_length=1)
    priority: int = Field(default=3, ge=1, le=5, description="1 is the most urgent")
    comments: bool = Field(description="May readers comment?")
    contact: str = Field(json_schema_extra={"format": "email"}, max_length=120)
    source: AnyUrl | None = Field(default=None, description="Where it appeared first, if it did")


class Text(BaseModel):
    title: str
    words: int
    text: str


@step
def read_article(file: str) -> Text:
    path = (ROOT / file).resolve()
    if not path.is_relative_to(ROOT) or not path.is_file():
        raise TerminalError(f"{file} is not a file of this project")
    text = path.read_text(encoding="utf-8")
    title = next((line.lstrip("# ") for line in text.splitlines() if line.startswith("#")), path.stem)
    return Text(title=title, words=len(text.split()), text=text)


@step
def check_links(file: str, text: str) -> int:
    """Every link to another file leads to one. Gives how many links there are."""
    links = re.findall(r"\]\(([^)#:]+\.md)[^)]*\)", text)
    missing = [link for link in links if not ((ROOT / file).parent / link).is_file()]
    if missing:
        raise TerminalError(f"{file} links to what is not there: {', '.join(missing)}")
    return len(links)


@step
def write_page(details: Publication, text: str) -> str:
    target = file_for_writing(re.sub(r"[^a-z0-9]+", "-", details.title.lower()) + ".html")
    body = "".join(f"<p>{html.escape(part)}</p>\n" for part in text.split("\n\n"))
    head = f"<!doctype html><meta charset=utf-8><title>{html.escape(details.title)}</title>"
    target.write_text(f"{head}\n<h1>{html.escape(details.title)}</h1>\n{body}", encoding="utf-8")
    return target.name


@workflow
async def publish_article(ctx: Context, article: Article) -> str:
    """Read an article, ask how it shall appear, have it approved, write its page."""
    text = await ctx.step(read_article, article.file)
    ctx.report_progress(1, 4, f"{text.words} words read")
    links = await ctx.step(check_links, article.file, text.text)
    ctx.report_progress(2, 4, f"{links} link{'' if links == 1 else 's'} checked")
    details = await ctx.wait_for_input(f"How shall “{text.title}” appear?", Publication)
    ctx.report_progress(3, 4, "waiting for the editor")
    shown = {**details.model_dump(mode="json"), "words": text.words, "text": text.text}
    question = f"Publish “{details.title}” for {details.audience}?"
    (await ctx.wait_for_approval(question, ApprovalConfig(timeout_ms=timedelta(days=7)), payload=shown)).require()
    page = await ctx.step(write_page, details, text.text)
    ctx.report_progress(4, 4, "published")
    return page


# ------------------------------------------------------------------------------------------------ data to move


class Move(BaseModel):
    target: str = Field(default="commits", pattern=r"^[a-z_]{1,40}$", description="Name of the new table")
    at_once: int = Field(default=1, ge=1, le=100, description="Commits in one batch")
    pause_ms: int = Field(default=3_000, ge=0, le=60_000, description="Rest between batches, for other users")
    rehearse_trouble: bool = Field(default=True, description="Every fifth batch finds the target busy at first")


class TargetBusyError(Exception):
    """Passes by itself; another try helps."""


def rows_of(hashes: list[str]) -> list[list[str]]:
    log = git(str(ROOT), "log", "--no-walk=unsorted", "-z", "--format=%H%x1f%an%x1f%aI%x1f%s", *hashes, "--")
    return [line.split("\x1f", 3) for line in log.strip("\0\n").split("\0")]


@step
def list_commits() -> list[str]:
    return git(str(ROOT), "rev-list", "--reverse", "--max-count=300", "HEAD").split()


@step(retry=Retry(attempts=4, delay_ms=400, backoff="exponential"))
def move_batch(target: str, hashes: list[str], is_busy: bool) -> int:
    """Insert the batch; what is there already stays as it is. Gives how many rows the table has."""
    if is_busy and current_step().attempt < 3:
        raise TargetBusyError(f"table {target} is locked by another user")
    with closing(sqlite3.connect(file_for_writing("history.db"))) as database, database:
        database.execute(f"CREATE TABLE IF NOT EXISTS {target} (hash TEXT PRIMARY KEY, author, day, subject)")
        database.executemany(f"INSERT OR IGNORE INTO {target} VALUES (?, ?, ?, ?)", rows_of(hashes))  # noqa: S608
        count: int = database.execute(f"SELECT count(*) FROM {target}").fetchone()[0]  # noqa: S608
    return count


@step
def drop_table(target: str) -> None:
    with closing(sqlite3.connect(file_for_writing("history.db"))) as database, database:
        database.execute(f"DROP TABLE IF EXISTS {target}")


@workflow
async def move_history(ctx: Context, move: Move) -> int:
    """Move this project's history into a database table, batch by batch, with rests in between."""
    hashes = await ctx.step(list_commits)
    starts = range(0, len(hashes), move.at_once)
    try:
        for number, start in enumerate(starts, 1):
            batch = hashes[start : start + move.at_once]
            is_busy = move.rehearse_trouble and number % 5 == 0
            count = await ctx.step(move_batch, move.target, batch, is_busy)
            ctx.report_progress(start + len(batch), len(hashes), "commits moved")
            ctx.log(f"batch {number} of {len(starts)} is in", rows=count)
            await ctx.sleep(ms=move.pause_ms)
    except asyncio.CancelledError:
        await ctx.step(drop_table, move.target)
        ctx.log(f"table {move.target} removed again")
        raise
    return len(hashes)


# --------------------------------------------------------------------------------------------- a report to write


class Author(BaseModel):
    name: str
    commits: int
    days: int


class ReportInput(BaseModel):
    authors: int = Field(default=4, ge=1, le=20, description="How many of the most active authors")
    hours: int = Field(default=8, ge=0, le=168, description="When the report is sent, counted from now")


@step
def most_active(count: int) -> list[str]:
    lines = git(str(ROOT), "shortlog", "-sn", "HEAD").splitlines()
    return [line.split("\t", 1)[1] for line in lines[:count]]


@step
def count_commits(name: str) -> Author:
    days = git(str(ROOT), "log", "--fixed-strings", f"--author={name} <", "--format=%as", "HEAD").split()
    return Author(name=name, commits=len(days), days=len(set(days)))


@step
def newest_documents() -> list[str]:
    return [path.name for path in sorted((ROOT / "docs").glob("*.md"))]


@step
def write_report(authors: list[Author], documents: list[str]) -> str:
    target = file_for_writing("report.json")
    content = {"authors": [author.model_dump() for author in authors], "documents": documents}
    target.write_text(json.dumps(content, indent=2), encoding="utf-8")
    return target.name


@workflow
async def author_figures(ctx: Context, name: str) -> Author:
    """Count what one author did."""
    return await ctx.step(count_commits, name)


@workflow
async def activity_report(ctx: Context, report: ReportInput) -> str:
    """Collect figures about authors and documents at the same time; send the report hours later."""
    names = await ctx.step(most_active, report.authors)
    ctx.report_progress(1, 3, f"{len(names)} authors found")
    authors, documents = await ctx.gather(ctx.map(author_figures, names), ctx.step(newest_documents))
    ctx.report_progress(2, 3, f"waiting {report.hours} h until the report is sent")
    await ctx.sleep(timedelta(hours=report.hours))
    name = await ctx.step(write_report, authors, documents)
    ctx.report_progress(3, 3, "sent")
    return name


# ------------------------------------------------------------------------------------------------ sample runs

MARIA, JONAS = "Maria Sommer", "Jonas Weber"
PAPER = Line(text="Copy paper, box of 5", quantity=6, price=30.75)
TABLES = [Line(text="Height-adjustable desk", quantity=16, price=649), Line(text="Delivery", quantity=1, price=180)]
LICENCE = Line(text="Licence, one year", quantity=3, price=240)


def invoice(supplier: str, number: str, lines: list[Line], iban: str) -> Invoice:
    total = float(sum(Decimal(str(line.price)) * line.quantity for line in lines))
    return Invoice(supplier=supplier, number=number, total=total, iban=iban, due=date(2026, 12, 18), lines=lines)


ARTICLE = Publication(
    title="How people decide",
    summary="What waits for a person, who may answer, and what happens when nobody does.",
    publish_on=date(2026, 12, 1),
    audience="everybody",
    channels=["website", "newsletter"],
    comments=True,
    contact="editor@example.org",
)

Steering = Callable[[Execution[Any]], Awaitable[Any]]


async def asked(execution: Execution[Any]) -> None:
    """Wait until the run asks somebody."""
    await happened(execution, lambda: bool(execution.requests))


async def happened(execution: Execution[Any], condition: Callable[[], bool]) -> None:
    if not condition():
        async for _ in execution.events():
            if condition():
                return


async def agreed_by_one(execution: Execution[Any]) -> None:
    await asked(execution)
    await execution.approve("Ordered by us, delivered in full.", by=MARIA)


async def published(execution: Execution[Any]) -> None:
    await asked(execution)
    await execution.respond(ARTICLE.model_dump(mode="json"), by=MARIA)
    await asked(execution)
    await execution.approve("Good to read.", by=JONAS)
    await execution.wait()


async def sent_back(execution: Execution[Any]) -> None:
    await asked(execution)
    await execution.respond({**ARTICLE.model_dump(mode="json"), "title": "Retries, simply"}, by=MARIA)
    await asked(execution)
    await execution.reject("The part about timeouts has to be shorter.", by=JONAS)
    await execution.wait()


async def paused(execution: Execution[Any]) -> None:
    await happened(execution, lambda: execution.progress.current >= 6)
    await execution.pause("The backup of the target runs until six.", by=JONAS)


async def cancelled(execution: Execution[Any]) -> None:
    await happened(execution, lambda: execution.progress.current >= 3)
    await execution.cancel("Wrong table; starts again with the right one.", by=MARIA)
    await execution.wait()


async def ended(execution: Execution[Any]) -> None:
    await execution.wait()


async def asleep(execution: Execution[Any]) -> None:
    await happened(execution, lambda: execution.progress.current >= 2)


GOOD_IBAN = "DE89 3704 0044 0532 0130 00"
NOTES = ReleaseInput(str(ROOT), None, str(FILES))
SAMPLES: list[tuple[Any, Any, dict[str, str], Steering]] = [
    (pay_invoice, invoice("Blau Paper", "2026-3391", [PAPER], GOOD_IBAN), {"team": "office"}, ended),
    (publish_article, Article(file="docs/human-in-the-loop.md"), {"team": "editors"}, published),
    (publish_article, Article(file="docs/retries-and-timeouts.md"), {"team": "editors"}, sent_back),
    (pay_invoice, invoice("Weiss Software", "R-20417", [LICENCE], "DE89 3704 0044 0532 0130 01"), {}, ended),
    (move_history, Move(target="commits_old", pause_ms=300), {"team": "data"}, cancelled),
    (move_history, Move(target="commits_archive", pause_ms=300), {"team": "data"}, paused),
    (activity_report, ReportInput(), {"team": "data"}, asleep),
    (release_notes, NOTES, {"project": "osprotocol"}, asked),
    (publish_article, Article(file="docs/concepts.md"), {"team": "editors"}, asked),
    (pay_invoice, invoice("Nord Furniture", "RE-1180", TABLES, "GB82 WEST 1234 5698 7654 32"), {}, agreed_by_one),
]


NEED_COMMITS = (move_history, activity_report, release_notes)


def has_commits() -> bool:
    return resolves(str(ROOT), "HEAD")


async def make_runs(client: Client) -> int:
    """Start what is not there yet and bring it to its state. Gives how many runs that were."""
    there = {run.idempotency_key for run in (await client.list(label="sample=yes", limit=200)).items}
    made = 0
    for number, (work, given, labels, steering) in enumerate(SAMPLES, 1):
        key = f"sample-{number}"
        if key in there or (work in NEED_COMMITS and not has_commits()):
            continue
        options = RunOptions(labels={**labels, "sample": "yes"}, idempotency_key=key)
        await steering(await client.create_run(work, given, options).start())
        made += 1
    unfinished = [RunStatus.PENDING, RunStatus.IN_PROGRESS]
    if has_commits() and not (await client.list(workflow=move_history, status=unfinished, limit=1)).items:
        await client.create_run(move_history, Move()).start()  # so that something moves at every visit
    return made


async def main() -> int:
    parser = argparse.ArgumentParser(description="Make the sample runs of the console.")
    parser.parse_args()
    FOLDER.mkdir(parents=True, exist_ok=True)
    try:
        async with connect(DATABASE, linger_ms=0) as client:
            made = await make_runs(client)
    except (OSProtocolError, OSError) as error:
        print(f"console_samples: {error}", file=sys.stderr)
        return 1
    if not has_commits():
        names = ", ".join(work.name for work in NEED_COMMITS)
        print(f"{ROOT} has no git commits: left out are the samples that need them ({names})")
    print(f"{made} sample runs made in {FOLDER}" if made else f"The sample runs of before are in {FOLDER}")
    return 0


if __name__ == "__main__":
    sys.exit(asyncio.run(main()))
