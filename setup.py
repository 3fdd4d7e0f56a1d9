"""The build: the hot modules are compiled by mypyc where there is a C compiler, and stay as they are where there is none.

It is the same source either way, and the tests run both. XNET_PURE=1 leaves the compiler out.
"""

import os

from setuptools import setup

HOT = [
    "xnet/abi/linux/virtio_net.py",
    "xnet/abi/xen/netif.py",
    "xnet/engine/edge.py",
    "xnet/engine/turn.py",
    "xnet/frame/arena.py",
    "xnet/frame/chain.py",
    "xnet/frame/ether.py",
    "xnet/frame/offload.py",
    "xnet/hv/domain.py",
    "xnet/hv/grantops.py",
    "xnet/hv/grants.py",
    "xnet/hv/ports.py",
    "xnet/hv/runqueue.py",
    "xnet/mac/vnic.py",
    "xnet/mac/vswitch.py",
    "xnet/netif/assemble.py",
    "xnet/netif/back_queue.py",
    "xnet/netif/front_queue.py",
    "xnet/netif/gather.py",
    "xnet/netif/transport/copy.py",
    "xnet/netif/transport/map.py",
    "xnet/ring/back.py",
    "xnet/ring/front.py",
    "xnet/ring/shared.py",
]
"""What a frame passes through; everything else runs once a vif or once a second."""


def extensions() -> list:
    if os.environ.get("XNET_PURE"):
        return []
    from mypyc.build import mypycify

    found = mypycify(HOT, opt_level="2", debug_level="0")
    for extension in found:
        extension.optional = True  # no compiler: a warning, and plain Python
    return found


setup(ext_modules=extensions())
