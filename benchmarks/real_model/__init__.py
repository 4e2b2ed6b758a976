"""A real language model: SmolLM2-135M-Instruct, which comes from the package index, on two processor cores.

Read `demo.py` first: the commands of a whole run, with the judges of `demo_judges.py`; `page.py` writes
docs/benchmarks/demo-llm.md. `race/` compares methods.
"""
