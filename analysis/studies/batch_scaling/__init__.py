"""Batch scaling: how the best batch size and learning rate move with the token budget, and what rule predicts them.

The chain, a module each, over arrays with a leading axis of bootstrap resamples (the first fit has one):

    cells       runs → budgets T, each a row of cells (T, B·S), each a loss curve over learning rates
    noise       seed noise → resampled curves
    profile     cell → best learning rate and the loss there; budget → best batch, largest batch without loss, ties
    exponents   budgets → power laws of both in T, and the plane γ*(BS, T)
    surface     all cells → the three regimes E + ε(BS, T) and their corners
    sensitivity the exponents under other choices
    momentum    cells with several momenta → the best one, and whether it moves
    table       all budgets at once, and the measured surface L(BS, γ)
    regret      rules (analysis.laws.rules) fitted below the largest budget → their loss there
    sizes       rules anchored at one network size → their loss at the next larger one
    fit         all of it for every optimizer of a table, as one frozen result
"""
