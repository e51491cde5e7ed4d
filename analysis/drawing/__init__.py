"""What the figures of all studies share: style, units, and how they are saved."""
