"""Curves and what is read off them: optima, profiles, slopes, power sums, and intervals."""
