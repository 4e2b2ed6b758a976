"""What is solved: strategy spaces, payoffs and policies, as data.

This room may import `mmd.update`, `mmd.simplex` and `mmd.host`. Read `game.py` first, then `treeplex.py`, which holds
the only sweeps over trees that a solver uses.
"""
