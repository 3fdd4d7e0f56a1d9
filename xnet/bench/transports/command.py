"""``xnet bench transports``: flip, hypervisor copy and map under the same traffic, and the story the figures tell."""

from __future__ import annotations

import secrets
import sys
from dataclasses import replace
from pathlib import Path

import click

from xnet.bench.transports.keep import Kept, load, open_store
from xnet.bench.transports.labs import WAYS
from xnet.bench.transports.plan import QUICK, Options
from xnet.errors import XnetError

WHOLE = Options()


def words_of(context: click.Context, parameter: click.Parameter, value: str | None) -> tuple[str, ...] | None:
    """A check of ``--ways``."""
    if value is None:
        return None
    wanted = tuple(value.split(","))
    for word in wanted:
        if word not in WAYS:
            raise click.BadParameter(f"{word!r} is none of {', '.join(WAYS)}", context, parameter)
    return wanted


@click.command()
@click.option(
    "--out", type=click.Path(path_type=Path), default=Path("xnet-transports"), show_default=True, help="Where."
)
@click.option("--rounds", type=click.IntRange(1), help=f"Rounds of everything.  [default: {WHOLE.rounds}]")
@click.option(
    "--time", "seconds", type=click.FloatRange(0.1, 20), help=f"Seconds of a point.  [default: {WHOLE.seconds}]"
)
@click.option("--ways", callback=words_of, metavar="LIST", help=f"Some of {','.join(WAYS)}.  [default: all]")
@click.option("--flavour", type=click.Choice(["xnbo", "xnbu"]), default="xnbo", show_default=True, help="Netback.")
@click.option("--seed", type=click.IntRange(0), help="Of the order of points.  [default: any]")
@click.option("--fresh", is_flag=True, help="Forget what an earlier run left in the directory.")
@click.option("--report-only", is_flag=True, help="Measure nothing: write the report anew from what was kept.")
@click.option("--quick", is_flag=True, help="Under a minute: one round of a few points, rough.")
def transports(
    out: Path,
    rounds: int | None,
    seconds: float | None,
    ways: tuple[str, ...] | None,
    flavour: str,
    seed: int | None,
    fresh: bool,
    report_only: bool,
    quick: bool,
) -> None:
    """Measure page flipping, hypervisor copy and map side by side, and write a report.

    One guest sends datagrams to one or many others, through labs that differ only in how frames cross: copied into
    the guest and out of it (copy), by page flipping into it (flip), mapped out of it (map), or both (flip+map). Sizes,
    load, the number of receivers, prompt and stopped ones, and the hypervisor's heap are varied in turn.

    DIR gets report.md with its plots, data.csv, data.json, and points.jsonl: every point as soon as it is finished.
    Break it off with Ctrl-C, and the same command goes on where it was.

    Needs root, gcc, and matplotlib: pip install 'xnet[report]'.
    """
    plan = QUICK if quick else WHOLE
    plan = replace(
        plan,
        rounds=rounds or plan.rounds,
        seconds=round((seconds or plan.seconds) * 20) / 20,
        ways=ways or plan.ways,
        flavour=flavour,
        seed=secrets.randbelow(1 << 32) if seed is None else seed,
    )
    try:
        need_matplotlib()
        kept = load(out) if report_only else measured(out, plan, seeded=seed is not None, fresh=fresh)
        from xnet.bench.transports.report import write

        click.echo(write(out, kept))
    except XnetError as error:
        raise click.ClickException(str(error)) from None


def measured(out: Path, plan: Options, *, seeded: bool, fresh: bool) -> Kept:
    """The experiment done, or what was left of it."""
    from xnet.bench.command import progress_on
    from xnet.bench.run import check_machine, environment
    from xnet.bench.transports.run import run_points

    check_machine()
    with open_store(out, plan, seeded=seeded, fresh=fresh) as store:
        store.begin(environment("none"))
        run_points(store.kept.options, store, progress_on(sys.stderr.isatty()))
    return store.kept


def need_matplotlib() -> None:
    """XnetError when the report could not be drawn: known before anything is measured."""
    from importlib.util import find_spec

    if find_spec("matplotlib") is None:
        raise XnetError("bench: the report needs matplotlib: pip install 'xnet[report]'")
