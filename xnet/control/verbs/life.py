"""What is done to a whole guest, in xl's words: ``xnet create``, ``shutdown``, ``reboot``, ``destroy``, ``suspend``,
``resume``, ``pause``, ``unpause``."""

from __future__ import annotations

from inspect import cleandoc

import click

from xnet.control.verbs.options import domain_argument, lab_option, order


def verb(name: str, short: str, text: str) -> click.Command:
    """The command that orders this of a guest."""

    @click.command(name, short_help=short, help=f"{cleandoc(text)}\n\nExample:  sudo xnet {name} b")
    @lab_option
    @domain_argument
    def ordered(lab_name: str | None, domain: str) -> None:
        order(lab_name, name, domain=domain)

    return ordered


create = verb(
    "create",
    "Start a guest of the lab that does not run.",
    """Start guest DOM of the lab: one with autostart = false, or one that was shut down or destroyed.

    Returns when its vifs are Connected, or says why they are not.""",
)
shutdown = verb(
    "shutdown",
    "Shut a guest down in order.",
    """Shut guest DOM down: its drivers close their vifs, what runs in it ends, its domain goes.

    Drivers that do not close are waited for ten seconds.""",
)
reboot = verb(
    "reboot",
    "Shut a guest down and start it anew.",
    """Reboot guest DOM: it comes back with a new domain id, its vifs (those attached later, too), addresses, routes and
    sysctls. What ran in it is gone.""",
)
destroy = verb(
    "destroy",
    "End a guest at once.",
    "End guest DOM at once, as if its plug were pulled: nothing in it is asked.",
)
suspend = verb(
    "suspend",
    "Let a guest suspend itself.",
    """Let guest DOM suspend itself, as xl suspend does: it keeps its memory and its place, and does nothing until it is
    resumed.""",
)
resume = verb(
    "resume",
    "Let a suspended guest go on.",
    "Let suspended guest DOM go on, as xl resume does. Its drivers connect anew; its connections live on.",
)
pause = verb(
    "pause",
    "Stop a guest where it is.",
    """Stop guest DOM where it is, as xl pause does: it answers no event, takes no frame and sends none.

    What is on its way to it waits in its rings and in dom0, which drops by name what waits too long. Its processes go
    on: what they send waits in its interfaces.""",
)
unpause = verb(
    "unpause",
    "Let a paused guest go on.",
    "Let paused guest DOM go on, as xl unpause does. One that is not paused goes on, too.",
)
