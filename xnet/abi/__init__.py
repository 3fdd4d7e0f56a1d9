"""Floor 0: laws others wrote. Layouts and numbers of Xen's and Linux's public headers, one module each, no behaviour.

Every layout is little-endian, spelt out (``<``), with its size asserted and its fields in a docstring table. Names are
the headers' own, in Python's case where they are functions and unchanged where they are constants.
"""
