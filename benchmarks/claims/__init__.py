"""Solvers on games whose equilibria are known: what methods of the field claim, races, random games, real tables.

Read `run.py` first, all methods on preference games; `page.py` writes docs/benchmarks/claims.md from what it stored.
"""
