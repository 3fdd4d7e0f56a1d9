"""When the run queue runs: at the end of a callback, or soon when news appears outside of any."""

from __future__ import annotations

import asyncio

import pytest

from xnet.engine.turn import BUDGET, ROUNDS, Turn

pytestmark = pytest.mark.integration


class Work:
    """A run queue with so many steps to do, each a whole budget."""

    def __init__(self, turn: Turn, steps: int = 0) -> None:
        self.left = steps
        self.budgets: list[int] = []
        turn.step = self.step

    def step(self, budget: int) -> int:
        self.budgets.append(budget)
        if not self.left:
            return 0
        self.left -= 1
        return budget


async def test_a_turn_runs_until_there_is_nothing_to_do() -> None:
    turn = Turn(asyncio.get_running_loop())
    work = Work(turn, 5)
    turn()
    assert work.left == 0
    assert work.budgets == [BUDGET] * 6
    assert not turn.held


async def test_a_step_that_did_less_than_it_might_was_the_last() -> None:
    turn = Turn(asyncio.get_running_loop())
    budgets: list[int] = []

    def step(budget: int) -> int:
        budgets.append(budget)
        return budget - 1

    turn.step = step
    turn()
    assert budgets == [BUDGET]
    assert not turn.held


async def test_endless_work_lets_the_loop_have_its_turn_and_goes_on() -> None:
    turn = Turn(asyncio.get_running_loop())
    work = Work(turn, ROUNDS + 10)
    turn()
    assert work.left == 10
    await asyncio.sleep(0)
    assert work.left == 0


async def test_a_kick_asks_the_loop_once() -> None:
    turn = Turn(asyncio.get_running_loop())
    work = Work(turn, 1)
    turn.kick()
    turn.kick()
    assert work.budgets == [], "never inside the one who kicks"
    await asyncio.sleep(0)
    assert len(work.budgets) == 2
    await asyncio.sleep(0)
    assert len(work.budgets) == 2, "one call for two kicks"
    turn.kick()
    await asyncio.sleep(0)
    assert len(work.budgets) == 3, "and another for the next"


async def test_who_holds_the_turn_will_take_it() -> None:
    turn = Turn(asyncio.get_running_loop())
    work = Work(turn, 1)
    turn.held = True
    turn.kick()
    await asyncio.sleep(0)
    assert work.budgets == []
    turn()
    assert work.left == 0
