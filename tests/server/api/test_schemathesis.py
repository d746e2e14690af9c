"""The description holds: whatever is sent, no 5xx and no answer that is not documented."""

from __future__ import annotations

import asyncio
import json
import sys
from pathlib import Path

import pytest

from tests.server.api.samples import on_a_port, started
from tests.server.security.world import world

_CHECKS = "not_a_server_error,status_code_conformance,content_type_conformance,response_schema_conformance"
# Evicting takes this process's own runs away; changed people and tokens may have lost the rights that the rest needs.
_OF_PEOPLE = "evict|tokens|users"


@pytest.mark.parametrize("choice", ["--exclude-path-regex", "--include-path-regex"], ids=["runs", "people"])
async def test_schemathesis_finds_nothing(choice: str, tmp_path: Path) -> None:
    """Generated requests for every path are answered as documented."""
    async with world() as made, on_a_port(made) as address:
        await made.add_person("everybody", "viewer", "operator", "approver", "admin")
        for name in ("api-ask", "api-question", "api-fail"):
            await started(made, name)
        description = tmp_path / "openapi.json"
        description.write_text(json.dumps(made.app.state.description()))
        process = await asyncio.create_subprocess_exec(
            str(Path(sys.executable).parent / "schemathesis"),
            "run", str(description), "--url", address, "--checks", _CHECKS, choice, _OF_PEOPLE,
            "--phases", "coverage,fuzzing", "--max-examples", "5", "--seed", "1",
            "-H", f"Authorization: Bearer {made.secrets['everybody']}",
            cwd=tmp_path, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT,
        )  # fmt: skip
        output, _ = await process.communicate()
    assert process.returncode == 0, output.decode()[-4_000:]
