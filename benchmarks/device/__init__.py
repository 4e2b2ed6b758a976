"""Time and memory on processors and accelerators: steps, starts, batches, loads, programs for chips not there.

Read `iteration.py` first, the time of one step.
"""
