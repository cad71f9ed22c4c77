"""Measurements against the design's budgets. Each module is one benchmark; `python -m benchmarks` runs them."""
