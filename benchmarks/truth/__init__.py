"""Language-model policies on preference games whose duality gap is known exactly.

Read `run.py` first, the truth test, and `games.py`, its games; `exploit.py` calibrates `bridge.exploit`; `page.py`
writes docs/benchmarks/preference-optimization.md.
"""
