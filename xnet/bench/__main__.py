"""``python -m xnet.bench``: the same as ``xnet bench``."""

from xnet.bench.command import bench

bench(prog_name="xnet bench")
