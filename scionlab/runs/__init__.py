"""What is known of runs: their schema, the store, and what is read from it; without torch."""
