"""The garden: what tests of xnet, and of other people's drivers, are made of. Sees floors 0 to 7; nothing sees it."""
