"""One fuzz target under atheris: python tools/fuzz.py TARGET CORPUS [libFuzzer's options].

What it prints is libFuzzer's: ``cov`` counts branches seen, ``exec/s`` executions a second. Exit status 0 if nothing
was found; else the bytes are in ``crash-...`` where -artifact_prefix says.
"""

from __future__ import annotations

import sys

import atheris

with atheris.instrument_imports(include=["xnet", "fuzz_targets"]):
    from fuzz_targets import TARGETS


def main() -> None:
    """Run the target that is named first."""
    name = sys.argv.pop(1)
    atheris.Setup(sys.argv, TARGETS[name])
    atheris.Fuzz()


if __name__ == "__main__":
    main()
