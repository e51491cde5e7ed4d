"""How the best learning rate moves along an axis, by default the width."""
