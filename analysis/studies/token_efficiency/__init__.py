"""How many times fewer tokens one method needs than another to the same loss."""
