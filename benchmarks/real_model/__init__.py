"""A language model from scratch, judges, MPO and other methods on real text.

Read `demo.py` first, which runs `stages.py` in order; `page.py` writes docs/benchmarks/demo-llm.md.
"""
