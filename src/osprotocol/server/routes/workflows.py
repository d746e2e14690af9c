"""Workflows: what can be started here."""

from __future__ import annotations

from typing import Annotated

from starlette.responses import Response

from osprotocol.errors import UnknownWorkflowError
from osprotocol.protocol.events import Page, WorkflowInfo
from osprotocol.server.access import Permission, Principal, allow
from osprotocol.server.openapi import READING, answers
from osprotocol.server.replies import reply, reply_items
from osprotocol.server.routes import api_router
from osprotocol.server.serving import Here

router = api_router("workflows")


@router.get("/workflows", responses=answers(Page[WorkflowInfo], *READING))
async def list_workflows(here: Here, who: Annotated[Principal, allow(Permission.READ)]) -> Response:
    """List the workflows that can be started, with the JSON Schemas of their inputs and outputs."""
    return reply_items(info for info in here.client.workflows() if who.sees(info.name))


@router.get("/workflows/{name}", responses=answers(WorkflowInfo, *READING, UnknownWorkflowError))
async def get_workflow(name: str, here: Here, who: Annotated[Principal, allow(Permission.READ)]) -> Response:
    """Get one workflow."""
    known = [info for info in here.client.workflows() if who.sees(info.name)]
    for info in known:
        if info.name == name:
            return reply(info)
    raise UnknownWorkflowError(name, tuple(info.name for info in known))
