"""How many more tokens a larger batch needs to the same loss, and how the critical batch size grows."""
