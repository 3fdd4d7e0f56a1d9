"""``xnet dladm``, ``flowadm``, ``dlstat`` and ``flowstat``: Solaris' tools for a lab's dom0. Their words are parsed as
those tools do; ``--lab NAME`` and ``--json`` may stand anywhere among them."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from typing import Any

import click

from xnet.control.client import Client
from xnet.control.dl.dladm import SUBS as DLADM
from xnet.control.dl.flowadm import SUBS as FLOWADM
from xnet.control.dl.stats import DLSTAT, DLSTAT_SUBS, FLOWSTAT
from xnet.control.dl.tool import Sub, Tool, listing, run
from xnet.control.state import pick, run_root
from xnet.control.verbs.options import ORDER_S

AS_THEY_ARE = {"ignore_unknown_options": True, "allow_interspersed_args": False, "help_option_names": []}


def ours(words: list[str]) -> tuple[list[str], str | None, bool]:
    """The tool's words, ``--lab`` and ``--json``."""
    rest, lab, want_json = [], None, False
    left = iter(words)
    for word in left:
        if word == "--lab":
            lab = next(left, "")
        elif word.startswith("--lab="):
            lab = word.partition("=")[2]
        elif word == "--json":
            want_json = True
        else:
            rest.append(word)
    return rest, lab, want_json


def tool_of(
    name: str, help_line: str, example: str, subs: Mapping[str, Sub], default: Sub | None = None
) -> click.Command:
    """The verb of a tool."""

    @click.command(name, context_settings=AS_THEY_ARE, help=help_line, short_help=help_line)
    @click.argument("words", nargs=-1, type=click.UNPROCESSED)
    def verb(words: tuple[str, ...]) -> None:
        rest, lab, want_json = ours(list(words))
        if rest in (["--help"], ["-h"], ["help"]):
            known = dict(subs) | ({"": default} if default is not None else {})
            click.echo(f"{help_line}\n\n{listing(name, known)}\n\n--lab NAME and --json may stand anywhere.")
            click.echo(f"\nExample:  sudo xnet {name} {example}")
            return
        sys.exit(run(Tool(name, asker(lab), want_json), subs, rest, default))

    return verb


def asker(lab: str | None) -> Callable[..., Any]:
    """Who asks the lab's engine."""

    def call(**request: Any) -> Any:
        with Client(run_root() / pick(lab).name, ORDER_S) as client:
            return client.call("datalink", **request)

    return call


dladm = tool_of(
    "dladm",
    "Administer dom0's links, vnics, etherstubs (Solaris).",
    "create-vnic -l stub0 -p maxbw=100M vnic0",
    DLADM,
)
flowadm = tool_of(
    "flowadm",
    "Administer flows of dom0's links (Solaris).",
    "add-flow -l vnic0 -a transport=tcp,local_port=80 -p maxbw=10M web",
    FLOWADM,
)
dlstat = tool_of("dlstat", "Show statistics of dom0's links (Solaris).", "show-link -r -i 1", DLSTAT_SUBS, DLSTAT)
flowstat = tool_of("flowstat", "Show statistics of flows (Solaris).", "-i 1", {}, FLOWSTAT)
