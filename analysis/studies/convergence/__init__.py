"""Rates of convergence on a known problem, against theory's."""
