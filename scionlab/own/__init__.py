"""Code of the caller's: how it is found and told about, hashed, and given random states of its own."""
