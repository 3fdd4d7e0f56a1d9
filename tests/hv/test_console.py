from __future__ import annotations

from xnet.hv import Console


def test_lines_say_who_wrote_them() -> None:
    console = Console()
    console.write("started")
    console.write("hello\nworld", 3)
    console.write("", 4)
    assert console.lines() == ["(XEN) started", "(d3) hello", "(d3) world", "(d4) "]


def test_a_domain_cannot_write_control_characters_or_endless_lines() -> None:
    console = Console()
    console.write("\x1b[31mred\tä", 1)
    console.write("x" * 5000, 1)
    assert console.lines()[0] == "(d1) ?[31mred??"
    assert len(console.lines()[1]) == len("(d1) ") + 256


def test_the_oldest_lines_go_when_the_ring_is_full() -> None:
    console = Console(size=100)
    for number in range(50):
        console.write(f"{number:03}")
    assert console.lines() == [f"(XEN) {number:03}" for number in range(40, 50)], "ten bytes a line with its newline"


def test_what_was_written_and_what_was_not_is_counted_for_good() -> None:
    console = Console(size=20)
    for _ in range(13):
        console.limited("again")
    console.tick()
    assert (console.written, console.suppressed) == (11, 3), "ten, and that three are missing"
