"""Kill engines at random moments and compare the machine before and after. A script, for a machine of its own.

Run inside fresh pid, mount and network namespaces: then every process, link and mount that is there is ours. Each
engine makes guests with a TAP, a bridge, sleeping children and mounts in them, plus a bridge in the namespace it
started in, and is killed by SIGKILL at a moment drawn from the seed. Exit status 0 and a line of figures, or 1 and
what stayed.
"""

from __future__ import annotations

import asyncio
import random
import signal
import subprocess
import sys
import time

from alone import footprint, settle

from xnet.host import Netlink, Nursery, Tap, Watcher, guest_command


async def engine() -> None:
    """What an engine does, until it is killed."""
    watcher = Watcher()
    nursery = Nursery()
    async with Netlink() as outside:
        await outside.add_bridge("xenbr0", index=watcher.reserve("xenbr0"))
    keep = []
    for name in ("dom0", "a", "b"):
        guest = await nursery.create(name)
        keep.append(Tap("eth0", guest.net))
        async with Netlink(guest.net) as netlink:
            await netlink.set_link("eth0", up=True)
            await netlink.add_bridge("xenbr0")
        for argv in (["sleep", "1000"], ["sh", "-c", "mount -t tmpfs own /mnt; setsid sleep 1000 & sleep 1000"]):
            command, fds = guest_command(guest, argv)
            # one that is on its way into a guest when that dies says so: ENOMEM, from its fork
            quiet = subprocess.DEVNULL
            keep.append(subprocess.Popen(command, pass_fds=fds, stdout=quiet, stderr=quiet))
    print("complete", flush=True)
    await asyncio.sleep(1000)


def kill_once(after_s: float | None) -> float:
    """Start an engine, kill it after a while or once it is complete; seconds until nothing of it was left."""
    before = footprint()
    process = subprocess.Popen([sys.executable, __file__, "engine"], stdout=subprocess.PIPE)
    assert process.stdout is not None
    if after_s is None:
        assert process.stdout.readline() == b"complete\n"
    else:
        time.sleep(after_s)
    process.send_signal(signal.SIGKILL)
    process.wait()
    process.stdout.close()
    return settle(before, f"killed after {after_s} s")


def main(times: int) -> None:
    dice = random.Random(7)
    gone = [kill_once(None if number % 4 == 0 else dice.uniform(0.05, 0.9)) for number in range(times)]
    print(f"{times} engines killed; gone after {sorted(gone)[times // 2]:.3f} s (median), {max(gone):.3f} s (worst)")


if __name__ == "__main__":
    if sys.argv[1] == "engine":
        asyncio.run(engine())
    else:
        main(int(sys.argv[1]))
