"""How activations and their changes grow with the width."""
