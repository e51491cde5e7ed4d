"""Arms compared after tuning the learning rate of each: optimizers, norms, decays, at one place or along an axis.

An arm is what a trial does, named by the values of some keys (`analysis.tables.keys`); places are the values of another
key, such as batch sizes, or one place if there is none. The chain, a module each:

    settings    what an experiment tells: arms, places, metric, claims
    design      runs → arms × places, each cell a loss curve over learning rates
    tuned       cell → the lowest value of its curve and where; resampled copies of it
    noise       seed noise, by arm where the arm has enough of it
    claims      "better", "flatter", "no worse", "grows", "falls" → held, did not hold, cannot tell
    fit         all of it for a sweep, as one frozen result (result)
"""
