"""One run from a game to a certified answer: the loop, its checkpoints, the polish, batches of small games.

This room may import `mmd.algorithms` and what lies below it, but not `mmd.lab`. Read `solver.py` first: it holds
`solve`, the loop of algorithms whose steps are traced. Those on the host have loops of their own, which `host_run.py`
watches; batches of matrix games have theirs in `batch.py`. `stopping.py` says why a run ends. The room is not called
`solve`, because importing a module `mmd.solve` would replace the function of that name.
"""
