"""Requests generated from the description of the API: every answer is one that it documents, never a 5xx (T13).

A case is one run of schemathesis with the case's number as its seed, against a server in this process.
Some cases are signed in, some are not, some send a token that is none; some follow links from one answer to the next
request.
"""

from __future__ import annotations

import asyncio
import json
import os
import re
import sys
from pathlib import Path

from tests.lab.harness import Harness, Tally, Violation, main
from tests.lab.memory_disk import folder_in_memory
from tests.server.api.samples import on_a_port, started
from tests.server.security.world import world

CHECKS = "not_a_server_error,status_code_conformance,content_type_conformance,response_schema_conformance"
EXAMPLES = 25
"""Of an operation in a full case."""
FEW = 1
"""Of an operation in the first case, which `make test` does."""
# Evicting takes this process's own runs away; changed people and tokens may have lost the rights that the rest needs.
_OF_PEOPLE = "evict|tokens|users"
_GENERATED = re.compile(r"(\d+) generated")
SIGNED_IN, NOBODY, FORGED = "signed in", "nobody", "forged token"
_WHO = (SIGNED_IN, SIGNED_IN, SIGNED_IN, SIGNED_IN, NOBODY, FORGED)


def case(number: int, tally: Tally) -> None:
    """One run of schemathesis."""
    asyncio.run(_case(number, tally))


async def _case(number: int, tally: Tally) -> None:
    who = _WHO[number % len(_WHO)]
    people = number % 4 == 3
    with folder_in_memory() as folder:
        async with world() as made, on_a_port(made) as address:
            await made.add_person("everybody", "viewer", "operator", "approver", "admin")
            for name in ("api-ask", "api-question", "api-fail", "api-count"):
                await started(made, name)
            secret = {SIGNED_IN: made.secrets["everybody"], NOBODY: "", FORGED: "osp_" + "A" * 43}[who]
            code, output = await _schemathesis(
                folder, made.app.state.description(), address, secret, number, people=people
            )
    found = _GENERATED.search(output)
    if found is None:
        raise Violation(f"schemathesis says nothing (exit code {code}): {output[-2_000:]}")
    tally.count("requests", int(found[1]))
    tally.mark(who)
    tally.mark("people" if people else "runs")
    if code != 0:
        raise Violation(f"{who}: {output[-6_000:]}")


async def _schemathesis(
    folder: Path, description: object, address: str, secret: str, number: int, *, people: bool
) -> tuple[int, str]:
    """Exit code and output of a run of schemathesis."""
    (folder / "openapi.json").write_text(json.dumps(description), encoding="utf-8")
    phases = "fuzzing,stateful" if number % 3 == 2 else "coverage,fuzzing"
    examples = FEW if number == 0 else EXAMPLES
    process = await asyncio.create_subprocess_exec(
        str(Path(sys.executable).parent / "schemathesis"),
        "run",
        "openapi.json",
        "--url",
        address,
        "--checks",
        CHECKS,
        *_paths(number, people=people),
        "--phases",
        "fuzzing" if number == 0 else phases,
        "--max-examples",
        str(examples),
        "--seed",
        str(number),
        *(("-H", f"Authorization: Bearer {secret}") if secret else ()),
        cwd=folder,
        env={**os.environ, "COLUMNS": "200"},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    try:
        output, _ = await process.communicate()
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    return process.returncode or 0, output.decode("utf-8", "replace")


def _paths(number: int, *, people: bool) -> tuple[str, str]:
    if number == 0:
        return "--include-path-regex", "/(runs|requests|workflows)$"
    return "--include-path-regex" if people else "--exclude-path-regex", _OF_PEOPLE


def _enough(tally: Tally) -> str | None:
    done = tally.counts["requests"]
    return None if done >= 8_000 else f"{done:,} requests, fewer than 8,000"


HARNESS = Harness(
    name="api_fuzz",
    title="Requests generated from the description of the API are answered as it says",
    case=case,
    full=9,
    share=3,
    small=1,
    quotas={SIGNED_IN: 4, NOBODY: 1, FORGED: 1, "people": 2, "runs": 4},
    small_marks=(SIGNED_IN, "runs"),
    checks=(_enough,),
)

if __name__ == "__main__":
    main(HARNESS)
