"""``xnet bench transports``: page flipping, hypervisor copy and map under the same traffic, and what the figures tell.

**What it is.** Labs that differ only in how frames get into guests and out of them (`labs`) carry the same datagrams at
the same pace (`traffic`, by `load.c` in the guests); sizes, load, receivers and the hypervisor's heap are varied in
turn (`plan`); all counters a frame can turn up in are read before and after, the heap in between (`observe`). Each
point is kept at once (`keep`), and the report is made of nothing but what was kept: `figures` has the medians, `story`
makes sentences of them, `plots` draws them, `report` puts it all together.

**Who owns what.** `run.Labs` owns the labs, a lab its engine and the traffic programs in its guests; all of them die
with this process. The store owns the directory it writes to.

**In which order.** Calibrations first: what a load is a part of. Then rounds of all settings in an order the seed
decides, the ways of a setting next to each other, so that they meet the same machine.

**What can go wrong.** A point that fails is kept with its error and measured again when the run is resumed. A lab that
ends ends the run, and what was finished stays. Frames that no counter owns up to are told as such.
"""
