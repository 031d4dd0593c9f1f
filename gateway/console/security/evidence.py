"""The page "Evidence": `GET /console/evidence`, how sound the record is, and all that keeps it."""

import asyncio
from collections.abc import Sequence

from aiohttp import web

from gateway.audit.evidence.verdict import Kept
from gateway.config.model import Config
from gateway.console.security.frame import Frame
from gateway.console.security.from_disk import FromDisk
from gateway.console.security.heads import Heads
from gateway.console.security.soundness import (
    describe_heads,
    describe_index,
    describe_keys,
    describe_nodes,
    describe_retention,
    describe_sinks,
    describe_state,
    describe_verified,
    describe_witnesses,
    describe_workers,
)
from gateway.console.security.visit import PATH
from gateway.health import ask_kill_switch
from gateway.metrics.reading import ask_all
from gateway.state import State
from gateway.stores.nodes import Node, Nodes
from gateway.stores.store import StoreError
from gateway.tokens.keys import read_terms
from gateway.tokens.listing import list_all

EVIDENCE = f"{PATH}/evidence"
_NODES_SECONDS = 2.0
_LIMITED = "This page is about all accounts, and you may read the records of one."


class EvidencePage:
    """Reads everything as it is when it is asked, and keeps nothing."""

    def __init__(
        self,
        *,
        frame: Frame,
        config: Config,
        state: State,
        heads: Heads,
        kept: FromDisk[Kept | None],
        nodes: Nodes | None,
    ) -> None:
        """`kept` is what came of the last time that the journal was verified; without `nodes` this is the only one."""
        self._frame = frame
        self._config = config
        self._state = state
        self._heads = heads
        self._kept = kept
        self._nodes = nodes

    def routes(self) -> list[web.AbstractRouteDef]:
        """Return the routes of the admin listener that this serves."""
        return [web.get(EVIDENCE, self._frame.guarded(self.show, again=EVIDENCE), allow_head=False)]

    async def show(self, request: web.Request) -> web.Response:
        """Answer with the page."""
        visit = await self._frame.admission.for_page(request)
        if isinstance(visit, web.Response):
            return visit
        if visit.account is not None:
            return self._frame.pages.message("Not for you", _LIMITED, status=403, again=f"{PATH}/log")
        state, config = self._state, self._config
        fellows = {origin: path for origin, path in state.post.fellows.items() if origin != state.post.origin}
        heads, kept, nodes, switch, told = await asyncio.gather(
            self._heads.read(),
            self._kept.read(),
            self._read_nodes(),
            ask_kill_switch(state.store, patience_seconds=state.facts.patience_seconds),
            ask_all(fellows.values()),
        )
        readings = dict(zip(fellows, told, strict=True))
        now = state.clock()
        keys = list_all(read_terms(config), await state.store.list_keys(), now=now)
        index = None if state.indexer is None else state.indexer.told
        parts = [
            describe_heads(heads, config, now=now),
            describe_verified(kept, config, now=now),
            *describe_state(state, switch, config),
            describe_witnesses(state.witnesses, heads, readings),
            describe_sinks(state.sinks.statuses, now=now),
            describe_index(index, readings, is_on=state.log_index is not None),
            describe_workers(state.post.origin, readings, state),
            describe_nodes(state.post.origin, nodes, config),
            describe_keys(keys, now=now),
            describe_retention(config, await state.store.list_holds()),
        ]
        bad = [part.title for part in parts if part.how in ("failing", "degraded")]
        return self._frame.page(
            visit,
            "security_evidence.html",
            here="evidence",
            parts=parts,
            heads=heads or [],
            bad=bad,
            worst="failing" if any(part.how == "failing" for part in parts) else "degraded" if bad else "ok",
            address=EVIDENCE,
            now=now,
        )

    async def _read_nodes(self) -> Sequence[Node] | None:
        """Return those that there are, None if the store does not say in time."""
        if self._nodes is None:
            return None
        try:
            async with asyncio.timeout(_NODES_SECONDS):
                return await self._nodes.read()
        except (StoreError, TimeoutError):
            return None
