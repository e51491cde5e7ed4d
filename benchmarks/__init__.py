"""What the parts that have to be fast cost, each variant against another: `python -m benchmarks`."""
