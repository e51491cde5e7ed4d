"""Tuned on the proxy, used at the target: what it loses against tuning the target, and the compute it saves.

`settings` is what the experiment says of its trials, `costs` what the searches took, `noise` how far a regret can be
trusted, `result` the frozen result with its words, and `fit` the comparison.
"""
