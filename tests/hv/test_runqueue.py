from __future__ import annotations

from collections.abc import Callable

from xnet.hv.runqueue import RunQueue, Vcpu


def guest(name: str, log: list[str], act: Callable[[], None] = lambda: None, events: int = 1) -> Vcpu:
    """Runs what it is told in its upcall, and writes its name into the common log."""

    def upcall() -> int:
        log.append(name)
        act()
        return events

    return Vcpu(upcall)


def test_each_waiting_domain_gets_a_turn_in_the_order_it_came() -> None:
    log: list[str] = []
    queue = RunQueue(lambda: None)
    a, b = guest("a", log), guest("b", log)
    for vcpu in (a, b, a, a):
        queue.add(vcpu)
    assert queue.step(100) == 2
    assert log == ["a", "b"]
    assert not a.queued
    assert len(queue) == 0


def test_a_kick_comes_only_when_the_queue_was_empty_and_nobody_is_in_step() -> None:
    log: list[str] = []
    queue = RunQueue(lambda: log.append("kick"))
    b = guest("b", log)
    a = guest("a", log, act=lambda: queue.add(b))
    queue.add(a)
    queue.add(a)
    assert log == ["kick"]
    queue.step(100)
    assert log == ["kick", "a", "b"]
    queue.add(b)
    queue.add(a)
    assert log == ["kick", "a", "b", "kick"]


def test_two_domains_that_keep_each_other_busy_stop_at_the_budget_and_are_kicked() -> None:
    log: list[str] = []
    queue = RunQueue(lambda: log.append("kick"))
    a = guest("a", log, act=lambda: queue.add(b))
    b = guest("b", log, act=lambda: queue.add(a))
    queue.add(a)
    assert queue.step(5) == 5
    assert log == ["kick", "a", "b", "a", "b", "a", "kick"]
    assert len(queue) == 1


def test_a_step_inside_a_step_does_nothing() -> None:
    log: list[str] = []
    queue = RunQueue(lambda: None)
    b = guest("b", log)

    def steps() -> None:
        queue.add(b)
        assert queue.step(10) == 0
        log.append("a done")

    queue.add(guest("a", log, act=steps))
    queue.step(10)
    assert log == ["a", "a done", "b"]


def test_a_domain_sent_to_during_its_own_turn_gets_another() -> None:
    log: list[str] = []
    queue = RunQueue(lambda: None)
    again = [True, False]
    a = guest("a", log, act=lambda: queue.add(a) if again.pop(0) else None)
    queue.add(a)
    queue.step(10)
    assert log == ["a", "a"]


def test_turns_without_events_count_so_that_a_step_ends() -> None:
    log: list[str] = []
    queue = RunQueue(lambda: None)
    a = guest("a", log, act=lambda: queue.add(a), events=0)
    queue.add(a)
    assert queue.step(7) == 7


def test_many_events_in_one_turn_use_up_the_budget() -> None:
    log: list[str] = []
    queue = RunQueue(lambda: None)
    queue.add(guest("a", log, events=50))
    queue.add(guest("b", log))
    assert queue.step(10) == 50
    assert log == ["a"]


def test_a_step_that_did_less_than_its_budget_left_nobody_waiting() -> None:
    queue = RunQueue(lambda: None)
    turns: list[str] = []
    a = guest("a", turns, act=lambda: queue.add(b) if len(turns) < 6 else None, events=3)
    b = guest("b", turns, act=lambda: queue.add(a), events=0)
    for budget in range(1, 30):
        turns.clear()
        queue.add(a)
        done = queue.step(budget)
        assert done >= budget or not len(queue)
        while len(queue):
            queue.step(100)
