"""What a follower of the console is shown."""

from __future__ import annotations

import pytest

from xnet.control.verbs.dmesg import unseen


@pytest.mark.parametrize(
    ("before", "now", "new"),
    [
        ("", "", ""),
        ("", "abc", "abc"),
        ("abc", "abc", ""),
        ("abc", "abcd", "d"),
        ("abc", "cde", "de"),
        ("abc", "def", "def"),
        ("aab", "abb", "b"),
        ("aba", "babab", "bab"),
        ("abcd", "d", ""),
    ],
)
def test_a_line_is_shown_once_also_when_the_oldest_are_dropped(before: str, now: str, new: str) -> None:
    assert unseen(list(before), list(now)) == list(new)
