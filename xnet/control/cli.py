"""``xnet``: the command line. Verbs are imported when they are called, errors become one line and an exit status.

0  it worked          1  it did not          2  wrong usage or a wrong lab file
128+n  ended by signal n (130: Ctrl-C)       anything else: the status of a command run in a guest
"""

from __future__ import annotations

import difflib
import functools
import importlib
import os
import signal
import sys
from collections.abc import Callable, Sequence
from typing import Any

import click

from xnet.errors import ConfigError, XnetError

VERBS: dict[str, tuple[str, str]] = {
    "demo": ("xnet.control.verbs.demo:demo", "Boot two guests, send real traffic between them, show what crossed."),
    "run": ("xnet.control.verbs.run:run", "Run a lab in the foreground until Ctrl-C."),
    "up": ("xnet.control.verbs.up:up", "Start a lab in the background."),
    "down": ("xnet.control.verbs.down:down", "Take a lab down."),
    "exec": ("xnet.control.verbs.exec:exec_", "Run a command in a guest."),
    "list": ("xnet.control.verbs.list:list_", "List domains and their vifs."),
    "create": ("xnet.control.verbs.life:create", "Start a guest of the lab that does not run."),
    "shutdown": ("xnet.control.verbs.life:shutdown", "Shut a guest down in order."),
    "reboot": ("xnet.control.verbs.life:reboot", "Shut a guest down and start it anew."),
    "destroy": ("xnet.control.verbs.life:destroy", "End a guest at once."),
    "suspend": ("xnet.control.verbs.life:suspend", "Let a guest suspend itself."),
    "resume": ("xnet.control.verbs.life:resume", "Let a suspended guest go on."),
    "pause": ("xnet.control.verbs.life:pause", "Stop a guest where it is."),
    "unpause": ("xnet.control.verbs.life:unpause", "Let a paused guest go on."),
    "network-attach": ("xnet.control.verbs.network:network_attach", "Plug a vif into a running guest."),
    "network-detach": ("xnet.control.verbs.network:network_detach", "Unplug a vif from a running guest."),
    "link": ("xnet.control.verbs.network:link", "Put a vif's cable in, or pull it out."),
    "restart-backend": ("xnet.control.verbs.network:restart_backend", "Let a vif's backend driver die and start anew."),
    "dladm": ("xnet.control.verbs.datalink:dladm", "Administer dom0's links, vnics, etherstubs (Solaris)."),
    "flowadm": ("xnet.control.verbs.datalink:flowadm", "Administer flows of dom0's links (Solaris)."),
    "dlstat": ("xnet.control.verbs.datalink:dlstat", "Show statistics of dom0's links (Solaris)."),
    "flowstat": ("xnet.control.verbs.datalink:flowstat", "Show statistics of flows (Solaris)."),
    "check": ("xnet.control.verbs.check:check", "Look for anything that nobody accounts for."),
    "dmesg": ("xnet.control.verbs.dmesg:dmesg", "Show the hypervisor's console."),
    "doctor": ("xnet.control.verbs.doctor:doctor", "Tell what this machine lacks, and how to get it."),
    "gc": ("xnet.control.verbs.gc:gc", "Remove what a killed xnet left behind."),
    "bench": ("xnet.bench.command:bench", "Measure a lab beside a raw relay and the kernel alone."),
}
"""Verb -> where its command is, and its line in ``xnet --help``."""


class Verbs(click.Group):
    """A group whose commands are imported one at a time."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """All verbs, as a user meets them."""
        return list(VERBS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import a verb."""
        if cmd_name not in VERBS:
            return None
        module, _, name = VERBS[cmd_name][0].partition(":")
        command = getattr(importlib.import_module(module), name)
        assert isinstance(command, click.Command)
        command.name = cmd_name
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """The verb asked for, or the nearest one in the error."""
        if args and args[0] not in VERBS and not args[0].startswith("-"):
            close = difflib.get_close_matches(args[0], VERBS, n=1, cutoff=0.5)
            hint = f'did you mean "{close[0]}"?' if close else '"xnet --help" lists them'
            raise click.UsageError(f'there is no verb "{args[0]}"; {hint}')
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """The list of verbs, without importing them."""
        with formatter.section("Verbs"):
            formatter.write_dl([(name, line) for name, (_, line) in VERBS.items()])

    def main(
        self,
        args: Sequence[str] | None = None,
        prog_name: str | None = None,
        complete_var: str | None = None,
        standalone_mode: bool = True,
        **extra: Any,
    ) -> Any:
        """Run, and exit with a status; with standalone_mode=False return, and let errors through."""
        call = functools.partial(super().main, args, prog_name, complete_var, False, **extra)
        return sys.exit(guarded(call)) if standalone_mode else call()


def guarded(call: Callable[[], Any]) -> int:
    """Run a command line: its exit status, with any error told on stderr in a line each."""
    try:
        status = call()
        sys.stdout.flush()
        return status if isinstance(status, int) else 0
    except click.exceptions.Exit as done:
        return done.exit_code
    except click.exceptions.NoArgsIsHelpError as error:
        click.echo(error.format_message(), err=True)
        return error.exit_code
    except click.ClickException as error:
        context = error.ctx if isinstance(error, click.UsageError) else None
        hint = f' ("{context.command_path} --help" tells more)' if context is not None else ""
        return complain(error.format_message() + hint, error.exit_code)
    except ConfigError as error:
        return complain(str(error), 2)
    except XnetError as error:
        return complain(str(error), 1)
    except (KeyboardInterrupt, click.Abort):
        return 128 + signal.SIGINT
    except BrokenPipeError:
        # whoever read our output has gone: nothing more to say, not even at exit
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        return 1


def complain(message: str, status: int) -> int:
    """Errors on stderr, a line each."""
    for line in message.splitlines() or [""]:
        click.echo(f"xnet: {line}", err=True)
    return status


def show_version(context: click.Context, _: click.Parameter, wanted: bool) -> None:
    """``--version``: what is installed, and whether its hot modules are compiled."""
    if wanted:
        from importlib import metadata

        from xnet.compiled import is_compiled

        form = "compiled" if is_compiled() else "plain Python"
        try:
            click.echo(f"xnet {metadata.version('xnet')} ({form})")
        except metadata.PackageNotFoundError:
            click.echo(f"xnet (run from a checkout, not installed; {form})")
        context.exit()


@click.command(cls=Verbs, context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--version", is_flag=True, is_eager=True, expose_value=False, callback=show_version, help="Show it.")
def main() -> None:
    """The network side of a Xen host, emulated byte for byte, with real Linux traffic through it.

    Try it:  sudo xnet demo

    Your own lab:  sudo xnet up LAB.toml;  sudo xnet exec a -- ping 10.0.0.2;  sudo xnet down
    """
