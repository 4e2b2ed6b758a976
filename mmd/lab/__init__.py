"""The laboratory: many runs as one batch, measured at marks, with distances to the nearest equilibrium.

This room may import `mmd.algorithms` and what lies below it, but not `mmd.solving`. Read `laboratory.py` first;
`directory.py` stores what it measured and `figure.py` draws it. `quantal.py` follows quantal response equilibria over
alpha.
"""
