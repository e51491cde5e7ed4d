"""Paired differences of a method at several targets with a known regret, luck of searches and noise of seeds."""

import numpy as np


def planted_differences(rng, luck, searches, seeds, common=0.0, proxy=0.0, truth=0.0):
    """A (searches, seeds) array per target, in units of the noise of one difference of a search and a seed.

    `luck` (targets,) is the standard deviation of a search's luck, of which the share `proxy` of the variance is the
    proxy search's and the same at all targets. `common` is the share of the noise's variance that a seed has in all
    searches alike.
    """
    of_proxy, found = rng.standard_normal(searches), []
    for deviation in luck:
        own = np.sqrt(proxy) * of_proxy + np.sqrt(1 - proxy) * rng.standard_normal(searches)
        alike, rest = rng.standard_normal(seeds), rng.standard_normal((searches, seeds))
        found.append(truth + deviation * own[:, None] + np.sqrt(common) * alike + np.sqrt(1 - common) * rest)
    return found
