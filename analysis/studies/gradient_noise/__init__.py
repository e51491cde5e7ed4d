"""How heavy the tail of single gradients' noise is, over how many directions it spreads, and how it averages out."""
