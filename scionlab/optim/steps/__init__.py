"""Optimizers as `torch.optim` has them, and what their steps are made of."""
