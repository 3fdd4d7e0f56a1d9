"""``xnet bench``: what the emulation costs, beside a bare relay and the kernel alone."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path

import click

from xnet.bench.check import FIGURES, Check, check, kept_of, load
from xnet.bench.compare import run_compare
from xnet.bench.lab import CROSSBOW, VARIANTS
from xnet.bench.metrics import FLAVOURS, QUICK, WORKLOADS
from xnet.bench.report import Report
from xnet.bench.run import Options, Progress, run_bench
from xnet.bench.transports.command import transports
from xnet.errors import XnetError

ROUNDS, SECONDS = 5, 3
QUICK_ROUNDS, QUICK_SECONDS = 2, 1


def some_of(words: Sequence[str], default: Sequence[str]) -> Callable[..., tuple[str, ...]]:
    """A check of an option's value: some of these words, parted by commas, or ``all``."""

    def convert(context: click.Context, parameter: click.Parameter, value: str | None) -> tuple[str, ...]:
        wanted = tuple(default) if value is None else tuple(words) if value == "all" else tuple(value.split(","))
        for word in wanted:
            if word not in words:
                raise click.BadParameter(f"{word!r} is none of {', '.join(words)}, all", context, parameter)
        return wanted

    return convert


@click.group(invoke_without_command=True)
@click.option("--rounds", type=click.IntRange(1), help=f"Rounds of everything.  [default: {ROUNDS}]")
@click.option("--time", "seconds", type=click.IntRange(1), help=f"Seconds a workload runs.  [default: {SECONDS}]")
@click.option("--flavour", type=click.Choice([*FLAVOURS, "both"]), default="both", show_default=True, help="Netback.")
@click.option(
    "--only", "workloads", callback=some_of(WORKLOADS, ()), metavar="LIST", help=f"Some of {','.join(WORKLOADS)}."
)
@click.option(
    "--with",
    "variants",
    callback=some_of((*VARIANTS, *CROSSBOW), ()),
    metavar="LIST",
    help=f"Labs that go other ways, too: some of {','.join((*VARIANTS, *CROSSBOW))}, or all.",
)
@click.option(
    "--relay",
    type=click.Choice(["auto", "c", "python", "both"]),
    default="auto",
    show_default=True,
    help="What to compare with: the relay in C (needs gcc), in Python, or both side by side.",
)
@click.option("--no-kernel", is_flag=True, help="Leave out the kernel's own veth and bridge.")
@click.option("--no-lab", is_flag=True, help="Leave out the lab: only the yardsticks.")
@click.option(
    "--quick", is_flag=True, help=f"{QUICK_ROUNDS} rounds of {QUICK_SECONDS} s, no pairs: under a minute, and rough."
)
@click.option("--json", "as_json", is_flag=True, help="The report as JSON, every sample included.")
@click.option(
    "--check",
    "checked",
    is_flag=False,
    flag_value=str(FIGURES),
    metavar="[FILE]",
    help="Compare with kept figures, those that came with xnet if no FILE is named.",
)
@click.option("--keep", type=click.Path(dir_okay=False, writable=True, path_type=Path), help="Keep the figures here.")
@click.pass_context
def bench(
    context: click.Context,
    rounds: int | None,
    seconds: int | None,
    flavour: str,
    workloads: tuple[str, ...],
    variants: tuple[str, ...],
    relay: str,
    no_kernel: bool,
    no_lab: bool,
    quick: bool,
    as_json: bool,
    checked: str | None,
    keep: Path | None,
) -> None:
    """Measure what the emulated Xen path costs.

    Two guests send each other TCP in bulk, 64-byte UDP and pings: through the kernel alone (veth and bridge), through a
    raw relay with the same TAPs and nothing emulated, and through a lab, in turns. What counts is the ratio lab/relay
    of each round: median (least-greatest). rr is one byte there and back over TCP; pairs, TCP in bulk between 2, 8 and
    32 pairs of guests at once.

    --with adds labs that go other ways than the default one: page flipping into the guest (flip), mapping out of it
    (map), several queues a vif (queues), and all checksums and segments in software (software); and on xnbo's etherstub
    14 or 254 idle vnics besides (vnics16, vnics256), a cap that is never reached (cap), a flow table (flows).

    xnbu: guest TAP, netback, vif TAP in a Linux bridge, and back. xnbo: guest to guest on an etherstub.

    Needs root, iperf3 and ping. Exit status 1 if a workload failed or a ratio that was promised is missed; with --check
    instead if a workload failed or a ratio is worse than the kept one beyond noise, which takes five rounds to tell.
    """
    if context.invoked_subcommand is not None:
        return
    options = Options(
        rounds=rounds or (QUICK_ROUNDS if quick else ROUNDS),
        seconds=seconds or (QUICK_SECONDS if quick else SECONDS),
        flavours=FLAVOURS if flavour == "both" else (flavour,),
        workloads=workloads or (QUICK if quick else WORKLOADS),
        kernel=not no_kernel,
        lab=not no_lab,
        relay=relay,
        variants=variants,
    )
    measure(options, checked, keep, as_json)


def measure(options: Options, checked: str | None, keep: Path | None, as_json: bool) -> None:
    """Run the bench and print what it gave; exit status 1 as `bench` says. A file that cannot be is told beforehand."""
    if keep and not keep.parent.is_dir():
        raise click.ClickException(f"--keep {keep}: {keep.parent} is no directory")
    try:
        kept = load(Path(checked)) if checked else None
        report = run_bench(options, progress_on(sys.stderr.isatty()))
        verdict = check(kept, report) if kept else None
    except XnetError as error:
        raise click.ClickException(str(error)) from None
    tell(report, verdict, as_json)
    if keep:
        try:
            keep.write_text(kept_of(report).as_json())
        except OSError as error:
            raise click.ClickException(f"--keep {keep}: {error.strerror}") from None
    if (report.failures or verdict.has_regressed()) if verdict else not report.is_reached():
        raise SystemExit(1)


def tell(report: Report, verdict: Check | None, as_json: bool) -> None:
    """Print a report, and how it compares with the kept one."""
    if as_json:
        data = report.as_data() | ({"check": asdict(verdict)} if verdict else {})
        click.echo(json.dumps(data, indent=2))
    else:
        click.echo(report.as_text() + (f"\n\n{verdict.as_text()}" if verdict else ""))


@bench.command("compare")
@click.option("--rounds", type=click.IntRange(1), help=f"Rounds of everything.  [default: {ROUNDS}]")
@click.option("--time", "seconds", type=click.IntRange(1), help=f"Seconds a workload runs.  [default: {SECONDS}]")
@click.option("--quick", is_flag=True, help="One round of 1 s: under a minute, and rough.")
@click.option("--json", "as_json", is_flag=True, help="All figures as JSON, every sample included.")
def compare(rounds: int | None, seconds: int | None, quick: bool, as_json: bool) -> None:
    """Set xnet beside what one would take instead.

    The same two guests on the kernel's veth and bridge, a VDE switch, Open vSwitch's datapath in user space, pasta and
    a pair of socats, in interleaved rounds of one run. What is not installed is named, and the rest compared. The CPU
    time is that of all processes that move frames; what kernel threads spend is in none of them.

    Exit status 1 if a workload failed, or TCP in bulk is not 8 times as fast as over a VDE switch.
    """
    try:
        result = run_compare(
            rounds or (1 if quick else ROUNDS),
            seconds or (QUICK_SECONDS if quick else SECONDS),
            progress_on(sys.stderr.isatty()),
        )
    except XnetError as error:
        raise click.ClickException(str(error)) from None
    click.echo(result.as_json() if as_json else result.as_text())
    if not result.is_reached():
        raise SystemExit(1)


def progress_on(tty: bool) -> Progress:
    """Progress on standard error: one line that is written over, with the time left; on a file, a line a round."""
    started = time.monotonic()
    shown = ""

    def show(done: int, total: int, text: str) -> None:
        nonlocal shown
        if tty:
            left = f", {(time.monotonic() - started) / done * (total - done):.0f} s left" if done else ""
            end = "" if done < total - 1 or not total else "\n"
            sys.stderr.write(f"\r\x1b[K[{done}/{total}] {text}{left}{end}")
            sys.stderr.flush()
        elif text.split(" ")[:2] != shown.split(" ")[:2]:
            click.echo(f"bench: {' '.join(text.split(' ')[:2]) if total else text}", err=True)
        shown = text

    return show


bench.add_command(transports)
