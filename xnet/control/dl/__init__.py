"""dladm, flowadm, dlstat and flowstat: their command lines, in their own words.

`options` parses as getopt does and complains as they do; `fields` are the columns; `dladm`, `flowadm` and `stats` the
subcommands. All they show comes from one snapshot of the engine's (`engine.datalinks.show`); all they order goes
there and is refused there.
"""
