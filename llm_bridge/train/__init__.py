"""Magnetic Preference Optimization and the methods beside it: one loop, one file for each method.

This room may import `llm_bridge.judges` and what lies below it, and of `mmd` the public surface and the equation.
Read `mpo.py` first, then `loop.py` (the rounds), `objective.py` (the loss of a token) and `rollout.py` (the draws).
"""
