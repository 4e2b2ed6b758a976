"""What a run will need on hardware that need not be there: bytes, products, moves between chips, time, money.

This room may import `llm_bridge.train` and what lies below it. Read `work.py` first, which says what a round does, then
`estimate.py` (the model without a compiler), `memory.py` (the same of a policy that is there, before its first round),
`programs.py` (the very programs of a run, from shapes alone), `counts.py` (what a compiled program does), `hardware.py`
(published peaks) and `search.py` (which mesh is best).
"""
