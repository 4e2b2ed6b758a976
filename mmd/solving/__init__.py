"""One run from a game to a certified answer: the loop, its checkpoints, the polish, batches of small games.

This room may import `mmd.algorithms` and what lies below it, but not `mmd.lab`. Read `solver.py` first: it holds
`solve`, the only time loop. The room is not called `solve`, because importing a module `mmd.solve` would replace the
function of that name.
"""
