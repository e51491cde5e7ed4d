"""Searches on a small model and on its targets: specs in, studies and rows of the store out; it knows no analysis.

`search` says what a search is, `attempt` trains one trial of it, `studies` is its memory (Optuna), `inline` and
`ray_search` are the executors, `run` makes searches, and `final` arranges the comparison of what they found.
"""
