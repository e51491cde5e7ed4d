"""Norms of the weights during training, and the bounds they are held to."""
