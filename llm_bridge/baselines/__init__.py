"""Methods to compare MPO with, one file each, on the same loop: same samples, same judge, same metrics.

A file says what differs: its payoffs or targets, its loss, or what it asks of the arena.
"""
