"""One verb of ``xnet`` a file. A verb's docstring is its ``--help``: what it does, then one example.

Verbs that only ask import nothing but `state` and `client`; `up`, `run` and `demo` import the engine when they must.
"""
