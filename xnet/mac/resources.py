"""Resources of a vnic: its caps, its flows and their caps, its priority. It puts a stage into the vnic's path each way
while there is a cap or a flow, and takes it out again."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from xnet.frame import Chain
from xnet.frame.arena import Arena
from xnet.mac.bandwidth import PRIORITIES, Limit, Ticker
from xnet.mac.flow import Flow, FlowTable
from xnet.mac.stage import Stage
from xnet.mac.vnic import Vnic


class Way(Stage):
    """One direction: flows first, each with its cap, then the link's cap, then `done`."""

    def __init__(self, done: Callable[[Chain], None], table: FlowTable, *, into: bool) -> None:
        self.done = done
        self.table = table
        self.into = into
        self.limit: Limit | None = None

    def take(self, chain: Chain) -> None:  # hot
        """Frames on their way."""
        if not self.table.flows:
            self.on(chain)
            return
        for flow, part in self.table.split(chain, not self.into):
            if flow is None:
                self.on(part)
                continue
            if self.into:
                flow.ipkts += len(part.frames)
                flow.rbytes += part.size()
            else:
                flow.opkts += len(part.frames)
                flow.obytes += part.size()
            limit = flow.rx if self.into else flow.tx
            if limit is None:
                self.on(part)
            else:
                limit.take(part)

    def on(self, chain: Chain) -> None:  # hot
        """Past the flows."""
        if self.limit is None:
            self.done(chain)
        else:
            self.limit.take(chain)


class Resources:
    """Those of one vnic. `ticker` is the engine's, `arena` dom0's."""

    def __init__(self, vnic: Vnic, ticker: Ticker, arena: Arena) -> None:
        self.vnic = vnic
        self.ticker = ticker
        self.arena = arena
        self.bps: int | None = None
        self.priority = "high"
        self.table = FlowTable()
        self.out = Way(vnic.send, self.table, into=False)
        self.into = Way(vnic.deliver, self.table, into=True)
        self.before = {"rx": 0, "tx": 0, "blocked": 0, "unblocked": 0}
        """Counts of caps that are gone."""

    def set_maxbw(self, bps: int | None) -> None:
        """The cap of each direction in bits a second, 0 for nothing at all; None: no cap."""
        self.bps = bps
        for way in (self.out, self.into):
            way.limit = self.changed(way.limit, bps, way.done, way.into)
        self.rank()
        self.plug()

    def changed(self, limit: Limit | None, bps: int | None, on: Callable[[Chain], None], into: bool) -> Limit | None:
        """A cap made, set or ended."""
        if limit is not None and bps is not None:
            limit.set(bps)
        elif limit is not None:
            limit.end()
            self.before["rx" if into else "tx"] += limit.sdrops
            if not into:
                self.before["blocked"] += limit.blocked
                self.before["unblocked"] += limit.unblocked
            return None
        elif bps is not None:
            limit = Limit(self.ticker, self.arena, on, bps, into=into)
        return limit

    def set_priority(self, priority: str) -> None:
        """Which lanes go on first when a window begins."""
        self.priority = priority
        self.rank()

    def rank(self) -> None:
        """Flows are ordered within their link's third, as in Crossbow."""
        base = PRIORITIES.index(self.priority) * len(PRIORITIES)
        for way in (self.out, self.into):
            if way.limit is not None:
                way.limit.rank = base
        for flow in self.table.flows.values():
            for limit in (flow.tx, flow.rx):
                if limit is not None:
                    limit.rank = base + PRIORITIES.index(flow.priority)

    def add_flow(self, name: str, attributes: Mapping[str, str]) -> Flow:
        """FlowError."""
        flow = Flow(name, attributes)
        self.table.add(flow)
        self.plug()
        return flow

    def remove_flow(self, name: str) -> None:
        """Its cap ends with it."""
        self.set_flow_maxbw(name, None)
        self.table.remove(name)
        self.plug()

    def set_flow_maxbw(self, name: str, bps: int | None) -> None:
        """As `set_maxbw`, for one flow; inside the link's own."""
        flow = self.table.flows[name]
        flow.bps = bps
        flow.tx = self.changed(flow.tx, bps, self.out.on, False)
        flow.rx = self.changed(flow.rx, bps, self.into.on, True)
        self.rank()

    def set_flow_priority(self, name: str, priority: str) -> None:
        """Within the link's."""
        self.table.flows[name].priority = priority
        self.rank()

    def plug(self) -> None:
        """Be in the vnic's path only where there is something to do."""
        needed = bool(self.table.flows) or self.bps is not None
        self.vnic.out, self.vnic.into = (self.out, self.into) if needed else (None, None)

    def statistics(self) -> dict[str, int]:
        """Since the vnic was made: ``rxsdrops txsdrops blkcnt ublkcnt``, the flows' own included."""
        tx = [self.out.limit, *(flow.tx for flow in self.table.flows.values())]
        rx = [self.into.limit, *(flow.rx for flow in self.table.flows.values())]
        return {
            "rxsdrops": self.before["rx"] + sum(limit.sdrops for limit in rx if limit is not None),
            "txsdrops": self.before["tx"] + sum(limit.sdrops for limit in tx if limit is not None),
            "blkcnt": self.before["blocked"] + sum(limit.blocked for limit in tx if limit is not None),
            "ublkcnt": self.before["unblocked"] + sum(limit.unblocked for limit in tx if limit is not None),
        }

    def close(self) -> None:
        """The vnic goes: what waits is lost."""
        for limit in (
            self.out.limit,
            self.into.limit,
            *(each for flow in self.table.flows.values() for each in (flow.tx, flow.rx)),
        ):
            if limit is not None:
                limit.drop_all()
