"""Floor 5: the paravirtual network interface, both ends.

Where what is. `gather` turns tx slots into packets and `scatter` frames into rx slots, on the backend's side;
`posted` turns frames into tx slots and `assemble` rx slots into frames, on the frontend's: these are the rules, and
`slots` has them by the burst, in C. `front_queue` and `back_queue` are the two ends of the data path;
`front_flip` is the former with page flipping, `front_bounced` for a backend that is not trusted, `shaped` (with its
`blocks`) as frontends other than Linux's have it; `profile` says what these, and old backends, are like.
`transport` holds the strategies by which bytes cross. `front` (netfront) and `back` (netback) are the devices: the
handshake in xenstore that makes and unmakes a queue, `device` what they have in common, `features` what is agreed,
`counters` what is counted.

Who owns what. The frontend owns the ring pages, the buffers and the event channels; the backend maps the rings and
binds the channels while connected. A tx page is granted from request to response, an rx page from posting to response;
a burst's pages all at once. Where pages are flipped, a posted buffer is a page the guest has given up, and what it gets
with the response is another. A frame fetched from a guest lies in the backend's arena (copy) or still in the guest's
page (map) for as long as the chain is lent.

Why a packet is handed on before it is answered: the frame is what somebody waits for, the answer is paperwork; and a
mapped packet may only be answered when nobody reads it any more. Responses still leave in ring order, all of a packet's
at once, so a backend that takes over later can go on at rsp_prod.

Which direction is which. tx is away from the guest and rx toward it, in both ends. An end's counters count what
crossed the ring: a frontend's tx_packets are its backend's tx_packets.

What can go wrong. A peer's impossible slot or index is `BadRing` or `RingError`; the device turns it into `rogue`:
that vif is disabled until it reconnects, and nobody else notices. What only xenstore shows (a missing key, a bad grant
reference) goes to the error node, and the device closes.

Sources: public/io/netif.h, Linux drivers/net/xen-netback and xen-netfront.c for order and verdicts.
"""

from xnet.netif.back import Netback
from xnet.netif.back_queue import BackQueue
from xnet.netif.features import FEATURE_NAMES, Features
from xnet.netif.front import Netfront
from xnet.netif.front_queue import FrontQueue
from xnet.netif.gather import BadRing
from xnet.netif.nic import Nic

__all__ = ["FEATURE_NAMES", "BackQueue", "BadRing", "Features", "FrontQueue", "Netback", "Netfront", "Nic"]
