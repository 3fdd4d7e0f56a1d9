"""Floor 8: the toolstack, from a lab file and a command line to a running machine and back.

**What it is.** Four small things, in the order a user meets them:

* ``cli`` and ``verbs/``: a click group that imports a verb only when it is called, so that ``xnet list`` answers
  without the engine, and one place where errors become one line and an exit status.
* ``config`` (with ``reader``, ``values``, ``vifspec``, ``crosscheck``): a lab file becomes a `Lab`, or a list of all
  that is wrong with it, each with its place and the fix.
* ``state``: ``/run/xnet/NAME/``. Who holds the lock on ``lab.json`` is the lab; when it dies the kernel lets go, and
  ``collect`` removes what it could not.
* ``daemon`` with ``server``, and ``client``: the engine process (foreground or forked), and the socket between it and
  the verbs: a line of JSON each way, descriptors by SCM_RIGHTS.

**Who owns what.** The engine process owns its state directory through a `Claim`, and everything else through the
`Machine`; a verb owns nothing but its end of a connection.

**In which order.** Check the file, then fork, then take the claim, then import the engine, boot, open the control
socket, say "ready"; the way down is the reverse. Whatever fails on the way is told to who waits, and undone.

**What can go wrong.** The owner dies (its lock is free: the next start or ``gc`` sweeps the files away); a teardown
hangs (`daemon.Ending` ends the process within two seconds, which is clean by construction: see `xnet.host`); two start
at once (one gets the lock, the other a line naming the first).
"""

__all__: list[str] = []
"""Nothing is imported here, for the speed of the verbs: programs take `load_lab` and `parse_lab` from `xnet`."""
