"""What the methods of the field claim, on games whose equilibria are known.

Read `run.py` first, all methods on preference games; `page.py` writes docs/claims.md from what it stored.
"""
