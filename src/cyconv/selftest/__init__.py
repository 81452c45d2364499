"""``python -m cyconv selftest``: proof of each promise of cyconv on this machine.

A check is a module of `checks` named here:

docstring
    Its first line is the promise.
``case(seed, tally)``
    Tries one case. Counts in the `Tally` what it compared, raises AssertionError where the promise fails.
``faults()``
    Names of planted faults, each with a context in which ``case`` must fail: the negative control.
``finish(tally)``, if the check has it
    Judges the figures of all cases together, in the same way.

The plain definitions (`reference`) and random cases that the checks rest on also serve the tests. They
are installed because what they prove on one machine says little about another.
"""

CHECKS = (
    "exact", "error", "grad", "hash", "batch", "fork", "arrays", "guard", "hostile", "indices", "nan", "threads",
    "interrupt", "leaks", "models",
)
