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

EVTCHN_UPCALL_PENDING = 0
EVTCHN_UPCALL_MASK = 1
EVTCHN_PENDING_SEL = 8
EVTCHN_PENDING = 2048
EVTCHN_MASK = 2560
EVTCHN_2L_NR_CHANNELS = 4096
"""Ports of a 64-bit domain with the 2-level ABI; 0 is never given out."""

EVTCHNSTAT_closed = 0
EVTCHNSTAT_unbound = 1
EVTCHNSTAT_interdomain = 2
EVTCHNSTAT_virq = 4
EVTCHNSTAT_ipi = 5
