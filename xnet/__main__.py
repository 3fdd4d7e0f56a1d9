"""``python -m xnet``: the command line, quiet under Ctrl-C even while it is still being imported."""

from __future__ import annotations


def main() -> None:
    """Run ``xnet``; never returns."""
    try:
        from xnet.control.cli import main as verbs

        verbs(prog_name="xnet")
    except KeyboardInterrupt:
        raise SystemExit(130) from None


if __name__ == "__main__":
    main()
