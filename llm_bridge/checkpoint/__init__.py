"""Models on disk: Hugging Face folders and PEFT adapters, read and written.

This room may import `llm_bridge.policy` and what lies below it. Read `loading.py` first, then `export.py`. What a
training run keeps to go on after a kill is in `llm_bridge.run.run_state`.
"""
