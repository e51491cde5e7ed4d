"""Which network size is best for a number of operations: by envelope, by valleys, and by a law."""
