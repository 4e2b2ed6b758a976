"""Magnetic Preference Optimization and the methods beside it: one loop, one file for each method.

This room may import `llm_bridge.judges` and what lies below it, and of `mmd` the public surface and the equation.
Read `mpo.py` first, then `loop.py` (the rounds), `rollout.py` (the draws), `learning.py` (the optimizer's steps) and
`objective.py` (the loss of a token). `weight_average.py` is a magnet of weights, `replay.py` the responses of earlier
rounds, `result.py` what `fit` returns.
Methods on games, by the same names, are in `mmd.algorithms`.
"""
