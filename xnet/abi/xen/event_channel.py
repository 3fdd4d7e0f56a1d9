"""Event channels, the 2-level ABI. Source: public/event_channel.h and public/xen.h (struct shared_info, x86-64).

The guest sees its channels in its shared_info page; the parts that concern us:

======  ====  =======================  =======================================================
offset  size  name                     meaning
======  ====  =======================  =======================================================
0       1     evtchn_upcall_pending    vcpu 0: some event waits
1       1     evtchn_upcall_mask       vcpu 0: do not interrupt
8       8     evtchn_pending_sel       vcpu 0: bit w set: word w of evtchn_pending has news
2048    512   evtchn_pending[64]       one bit a port: sent and not yet taken
2560    512   evtchn_mask[64]          one bit a port: keep it to yourself for now
======  ====  =======================  =======================================================
"""

from typing import Final

EVTCHN_UPCALL_PENDING: Final = 0
EVTCHN_UPCALL_MASK: Final = 1
EVTCHN_PENDING_SEL: Final = 8
EVTCHN_PENDING: Final = 2048
EVTCHN_MASK: Final = 2560
EVTCHN_2L_NR_CHANNELS: Final = 4096
"""Ports of a 64-bit domain with the 2-level ABI; 0 is never given out."""

EVTCHNSTAT_closed: Final = 0
EVTCHNSTAT_unbound: Final = 1
EVTCHNSTAT_interdomain: Final = 2
EVTCHNSTAT_virq: Final = 4
EVTCHNSTAT_ipi: Final = 5
