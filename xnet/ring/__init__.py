"""Floor 2: Xen's shared ring, front and back, and the byte stream rings.

One page, two ends, four free-running 32-bit indices (layout in `xnet.abi.xen.ring`). The front writes requests and
publishes them by req_prod; the back copies them out, answers in the same slots and publishes by rsp_prod. `FrontRing`
and `BackRing` are mirror images and use the public header's words; `front` and `back` say their rules, `ring` has them
in C where that was compiled.

Who owns a slot. The front from rsp_cons + nr_ents back to req_prod; the back from there on until it publishes the
response. A response overwrites the request of its slot, so slots are copied out before they are judged or answered
(XSA-155), and always in whole runs: copying 17 slots costs hardly more than copying one.

Who is woken. A producer looks at the other's event index after publishing and says whether to notify; a consumer
that finds nothing sets its event index, looks once more (`final_check_*`), and only then sleeps. Between publishing
and looking stands a full barrier: within one process program order is enough, so `barrier` is None; an end in
another process puts a fence there.

What can go wrong. The other end may write any index. An impossible distance raises `RingError`; the driver disables
that device. Nothing here trusts a slot's content.
"""

from xnet.ring.ring import BackRing, FrontRing
from xnet.ring.shared import RingError

__all__ = ["BackRing", "FrontRing", "RingError"]
