"""Scripts that measure; most print a table and store numbers as JSON under benchmarks/results. `page.py` writes docs.

Folders by theme: `truth` (language models on games whose truth is known), `claims` (solvers on games whose truth is
known), `faults` (what must never happen, and whether two states of the source do the same), `device` (time and memory),
`peers` (other programs), `real_model` (real text). Benchmarks may import everything, and only tests import them. Read
`demo.py` first, the main job in under a minute, and `report.py`, which stores numbers.
"""
