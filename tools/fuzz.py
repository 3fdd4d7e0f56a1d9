"""One fuzz target under atheris: python tools/fuzz.py TARGET [CORPUS...] [libFuzzer's options].

What it prints is libFuzzer's: ``cov`` counts branches seen, ``exec/s`` executions a second, and at the end its
statistics. Exit status 0 if nothing was found; else the bytes are in ``crash-...`` where -artifact_prefix says.
"""

from __future__ import annotations

import sys

import atheris

with atheris.instrument_imports(include=["xnet", "fuzz_targets"]):
    from fuzz_targets import TARGETS

LIMITS = ("-max_len=4096", "-timeout=20", "-rss_limit_mb=2048", "-print_final_stats=1")


def main() -> None:
    """Run the target that is named first."""
    program, name, *rest = sys.argv
    atheris.Setup([program, *LIMITS, *rest], TARGETS[name])
    atheris.Fuzz()


if __name__ == "__main__":
    main()
