"""What holds beyond one sweep: scaling laws, rules, the constants of a landscape, and plans made of them."""
