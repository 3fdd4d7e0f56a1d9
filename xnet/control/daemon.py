"""The engine process of a lab: in the foreground (`run`) or forked into the background (`start`).

::

    start()  fork --.-> setsid, claim, log, import the engine, boot --"ready"--> serve --> release
       waits <------'   one line of JSON on a pipe: {"event": …}* then {"ready": …} or {"error": …}

The fork comes before the heavy imports, and whoever waits learns at once why a boot failed.
"""

from __future__ import annotations

import asyncio
import gc
import json
import os
import signal
import sys
import traceback
from collections.abc import Callable, Coroutine
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any, NoReturn

from xnet.control.server import Server
from xnet.control.state import Claim, bury, claim, run_root, sweep
from xnet.errors import XnetError

if TYPE_CHECKING:
    from xnet.engine.lab import Lab
    from xnet.engine.machine import Machine

BOOT_S = 30.0
"""How long vifs may take until Connected."""
TEARDOWN_S = 1.7
"""How long an orderly end that a signal asked for may take before the process just ends."""
PATIENCE_S = 30.0
"""The same for an end that no signal asked for: nobody stands there with his finger on Ctrl-C."""
GC_THRESHOLD = 50_000
"""Objects between two looks for garbage in cycles: a burst of frames makes thousands of tuples, and no cycle."""
END_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)

Report = Callable[[str], None]
Work = Callable[["Machine"], Coroutine[Any, Any, None]]


class Interrupted(SystemExit):
    """A signal ended the boot; the exit status says which."""

    def __init__(self, signum: int) -> None:
        super().__init__(128 + signum)
        self.signum = signum


class Ending:
    """Turns signals into an orderly end, and an end that takes too long into an exit: the kernel cleans up then.

    A context manager around all of a machine's life, from before the claim on: a signal that comes while nothing can be
    cancelled yet is remembered. Handlers only record and set a timer (SIGALRM), so that they are safe anywhere.
    """

    def __init__(self) -> None:
        self.signum = 0
        self.begun = False
        self.held: Claim | None = None
        self.cancel: Callable[[], object] | None = None
        self.before: dict[int, Any] = {}

    def __enter__(self) -> Ending:
        for signum in END_SIGNALS:
            self.before[signum] = signal.signal(signum, self.signalled)
        self.before[signal.SIGALRM] = signal.signal(signal.SIGALRM, self.give_up)
        return self

    def __exit__(self, *_: object) -> None:
        signal.setitimer(signal.ITIMER_REAL, 0)
        for signum, handler in self.before.items():
            signal.signal(signum, handler)

    def attach(self) -> None:
        """From now on a signal cancels the current task; at once if there was one."""
        loop, task = asyncio.get_running_loop(), asyncio.current_task()
        assert task is not None, "called by the task to be cancelled"
        self.cancel = lambda: loop.call_soon_threadsafe(task.cancel)
        if self.signum:
            task.cancel()

    def signalled(self, signum: int, _: FrameType | None) -> None:
        """End: the first signal begins it, or hurries one that has begun; later ones change nothing."""
        if not self.signum:
            self.signum = signum
            signal.setitimer(signal.ITIMER_REAL, TEARDOWN_S)
            if self.cancel is not None and not self.begun:
                self.cancel()

    def begin(self) -> None:
        """The end begins: a signal cancels nothing any more, and the time runs."""
        self.begun = True
        if not self.signum:
            signal.setitimer(signal.ITIMER_REAL, PATIENCE_S)
            if self.signum:  # just now
                signal.setitimer(signal.ITIMER_REAL, TEARDOWN_S)

    def give_up(self, _: int, __: FrameType | None) -> None:
        """Out of time."""
        os.write(2, b"xnet: the teardown takes too long: ending at once\n")
        if self.held is not None:
            sweep(self.held.path)
        os._exit(128 + (self.signum or signal.SIGKILL))


class Complaints:
    """Mistakes of ours that reach the loop: each kind is told in full the first time, then as its count doubles. One
    that repeats with every frame must fill no disk."""

    def __init__(self) -> None:
        self.counts: dict[str, int] = {}

    def hear(self, loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        """An exception handler for the loop."""
        error = context.get("exception")
        kind = f"{context['message']}: {error!r}" if error is not None else str(context["message"])
        count = self.counts[kind] = self.counts.get(kind, 0) + 1
        if count == 1:
            loop.default_exception_handler(context)
        elif count & (count - 1) == 0:
            print(f"xnet: {count} times: {kind}", file=sys.stderr, flush=True)


def run(
    lab: Lab,
    on_event: Report,
    on_ready: Report,
    work: Work | None = None,
    on_claim: Callable[[Path], None] | None = None,
    keep: bool = False,
) -> int:
    """Claim the lab's name, boot it and serve it until it is asked to end: the signal that asked, 0 when a client did
    or `work` ended. `keep`: also when vifs do not connect; `on_ready` is told of these, or of nothing.

    Raises XnetError when it cannot boot, Interrupted when a signal came before it had.
    """
    gc.set_threshold(GC_THRESHOLD)
    ready = False

    def now_ready(problem: str) -> None:
        nonlocal ready
        on_ready(problem)
        ready = True

    with Ending() as ending:
        held = ending.held = claim(lab.name, lab.source)
        try:
            if on_claim is not None:
                on_claim(held.path)
            with asyncio.Runner(loop_factory=loop_factory(lab.loop)) as runner:
                runner.run(live(lab, held.path, ending, on_event, now_ready, work, keep))
        except asyncio.CancelledError:
            if not ready:
                raise Interrupted(ending.signum) from None
        except BaseExceptionGroup as group:  # guests boot side by side, and may fail so
            known, unknown = group.split(XnetError)
            if known is None or unknown is not None:
                raise
            raise XnetError("; ".join(str(error) for error in leaves(known))) from None
        finally:
            held.release()
    return ending.signum


def leaves(group: BaseExceptionGroup[XnetError]) -> list[XnetError]:
    """The errors of a group, and of the groups in it."""
    found: list[XnetError] = []
    for error in group.exceptions:
        found += leaves(error) if isinstance(error, BaseExceptionGroup) else [error]
    return found


async def live(
    lab: Lab, path: Path, ending: Ending, on_event: Report, on_ready: Report, work: Work | None, keep: bool
) -> None:
    """A machine's whole life."""
    from xnet.engine.machine import Machine  # heavy: after the fork, and never for verbs that only ask

    ending.attach()
    await asyncio.sleep(0)  # a signal that came before ends it here
    asyncio.get_running_loop().set_exception_handler(Complaints().hear)
    try:
        async with Machine(lab, on_event=on_event, run_dir=path) as machine:
            server = Server(machine, path / "control.sock")
            try:
                problem = await connected(machine, keep)
                server.status = "up"
                on_ready(problem)
                await first(server.stopping.wait(), *([work(machine)] if work else []))
            finally:
                ending.begin()
                await server.close()
    finally:
        ending.begin()


async def connected(machine: Machine, keep: bool) -> str:
    """Wait until all vifs are Connected; what is wrong, if a lab is kept that has such. XnetError if it is not."""
    try:
        await machine.wait_connected(BOOT_S)
    except XnetError as error:
        if not keep:
            raise
        return str(error)
    return ""


async def first(*awaitables: Coroutine[Any, Any, object]) -> None:
    """Wait until one is done, and cancel the others."""
    tasks = [asyncio.ensure_future(awaitable) for awaitable in awaitables]
    try:
        done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
    for task in done:
        task.result()


def loop_factory(choice: str) -> Callable[[], asyncio.AbstractEventLoop] | None:
    """What makes the loop: uvloop where it is wanted and there."""
    if choice == "asyncio":
        return None
    try:
        import uvloop
    except ImportError:
        if choice == "uvloop":
            raise XnetError('machine.loop is "uvloop", which is not installed: pip install uvloop') from None
        return None
    return uvloop.new_event_loop


def start(lab: Lab, on_event: Report, keep: bool = False) -> int:
    """Run the lab in a process of its own; its pid, once every vif is Connected. XnetError tells why not, and then the
    lab is gone, unless it is one to `keep`."""
    sys.stdout.flush()
    sys.stderr.flush()
    hear, tell = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.close(hear)
        background(lab, tell, keep)
    os.close(tell)
    before = {signum: signal.signal(signum, interrupt) for signum in END_SIGNALS}
    try:
        problem = listen(hear, lab.name, pid, on_event)
    except BaseException:
        stop_child(pid)
        bury(run_root() / lab.name)
        raise
    finally:
        for signum, handler in before.items():
            signal.signal(signum, handler)
    if problem:
        raise XnetError(f"{problem} (the lab is kept)")
    return pid


def interrupt(signum: int, _: FrameType | None) -> None:
    """A signal while waiting for the engine."""
    raise Interrupted(signum)


def stop_child(pid: int) -> None:
    """End the forked engine, and wait for it."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        os.kill(pid, signal.SIGTERM)
    except ProcessLookupError:
        return
    try:
        os.waitpid(pid, 0)
    except ChildProcessError:
        pass


def listen(hear: int, name: str, pid: int, on_event: Report) -> str:
    """What the engine tells until it is ready, and what is wrong all the same. XnetError when it never will be."""
    with os.fdopen(hear, encoding="utf-8") as lines:
        for line in lines:
            message = json.loads(line)
            if "ready" in message:
                return str(message["ready"])
            if "error" in message:
                sys.stderr.write(message.get("trace", ""))
                raise XnetError(message["error"])
            on_event(message["event"])
    _, status = os.waitpid(pid, 0)
    code = os.waitstatus_to_exitcode(status)
    how = f"killed by {signal.Signals(-code).name}" if code < 0 else f"exit status {code}"
    raise XnetError(f'lab "{name}": the engine died while booting ({how})')


def background(lab: Lab, tell: int, keep: bool) -> NoReturn:
    """The forked engine. Never returns into the command line it came from."""
    status = 1
    with os.fdopen(tell, "w", encoding="utf-8", buffering=1) as pipe:

        def say(**message: object) -> None:
            if not pipe.closed:
                pipe.write(json.dumps(message) + "\n")

        def ready(problem: str) -> None:
            say(ready=problem)
            pipe.close()

        try:
            os.setsid()
            run(lab, lambda text: say(event=text), ready, on_claim=redirect, keep=keep)
            status = 0
        except XnetError as error:
            say(error=str(error))
        except Interrupted as stop:
            say(error=f'lab "{lab.name}": ended by {signal.Signals(stop.signum).name} while booting')
        except BaseException as error:
            say(error=f'lab "{lab.name}": internal error: {error!r}', trace=traceback.format_exc())
        finally:
            os._exit(status)


def redirect(path: Path) -> None:
    """Nothing from the terminal, everything into the state directory's log."""
    fd = os.open(path / "log", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o640)
    null = os.open(os.devnull, os.O_RDONLY)
    for source, target in ((null, 0), (fd, 1), (fd, 2)):
        os.dup2(source, target)
    os.close(fd)
    os.close(null)
