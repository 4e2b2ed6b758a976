"""Scripts that measure; each prints a table and stores its numbers as JSON under benchmarks/results.

Folders by theme: `truth` (language models on games whose truth is known), `claims` (solvers on games whose truth is
known), `faults` (what must never happen), `device` (time and memory), `peers` (other programs), `real_model` (real
text). Benchmarks may import everything, and only tests import them. Read `demo.py` first, the main job in under a
minute, and `report.py`, which stores numbers.
"""
