"""Floor 7: the engine. One asyncio process that runs a whole machine; below it nothing awaits.

What it is. `machine.Machine` boots a lab and takes it away again. `xen_host.XenHost` is hypervisor, dom0 and the store
put together, without a loop. `guest.Guest` is a domain with its namespaces and, for each vif, a TAP, a `pump.Pump` and
a netfront (`iov` reads and writes TAPs); `driver_domain.DriverDomain` makes dom0's netbacks and does what hotplug
scripts do; `xenstored` serves the store on a Unix socket; `observe` collects what all of them say of themselves; `lab`
is what a machine is to be.

Who owns what. The machine's exit stack owns everything, in the order of its making; leaving it, in whatever way, ends
it in the reverse order. Pumps own no descriptor: the TAP's owner closes it after the pump has left the loop.

In which order. A TAP's callback reads a burst, publishes it and drains the run queue before it returns (`turn.Turn`),
so a frame walks from the guest's TAP to the last device in one pass of the loop. Only news from outside of any
callback asks the loop for a turn.

What can go wrong. A handler that raises is reported and the others go on; a guest that breaks the rules loses its
vif; what the OS refuses is a HostError that names the thing. A boot that fails half-way leaves nothing.

Nothing is imported here: ``xnet.engine.lab`` must stay cheap for verbs that only ask.
"""
