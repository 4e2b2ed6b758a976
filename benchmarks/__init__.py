"""Scripts that measure; each prints a table and stores its numbers as JSON under benchmarks/results."""
