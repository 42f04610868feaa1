"""Calls that look like RecBole's own."""

from __future__ import annotations


def call_from_recbole(function, *args):
    """Call as if RecBole's code did: the repairs look at the module of the frame that calls."""
    space = {"__name__": "recbole.pretended", "function": function, "args": args}
    exec("result = function(*args)", space)
    return space["result"]
