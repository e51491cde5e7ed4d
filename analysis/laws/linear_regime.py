"""Critical batch sizes of tables of tokens to a target, and by how far tokens exceed those of the linear regime.

Zhang et al. (arXiv 2410.21676) call a batch B0 linear as long as doubling it halves the steps, so that tokens stay, and
critical the batch at which tokens exceed those at B0 by a share e. On the law T(B) = T_min (1 + B/B_crit) it is

    B_e = (1 + e) B0 + e B_crit        from T(B_e) = (1 + e) T(B0)

They take B0 = 256 sequences and e = 20%. Steps are tokens over B, so that it is the same to say that steps exceed those
of linear scaling. Beside the law's stands what is read between the measured batch sizes, with no law: log T straight
over log B.

A table of tokens to a target has no losses whose noise could be resampled. Its noise is how far the points miss the
law: draws are the fitted log T plus normal noise of that size, which is known with as many degrees of freedom as there
are batch sizes beyond two.
"""

from dataclasses import dataclass, field, replace

import numpy as np
import pandas as pd

from analysis.fits.intervals import TAIL, Estimate
from analysis.fits.moderation import Pool
from analysis.laws.critical_batch import AtTarget, fit_target
from analysis.tables.arrays import Floats

PARAMETERS = 2


@dataclass(frozen=True)
class Exceeds:
    """The batch size, in tokens, that needs a share more tokens than one of the linear regime.

    `law`: on the fitted law, with its draws (R,) in `drawn`. `read`: between measured batch sizes. `why` says why both
    are None; `read` alone may be, too, where no measured batch needs so many tokens.
    """

    law: Estimate | None = None
    read: Estimate | None = None
    why: str = ""
    drawn: Floats | None = field(default=None, repr=False, compare=False)


def at_goal(target: float, batch_tokens: Floats, tokens: Floats, count: int, rng: np.random.Generator) -> AtTarget:
    """The law at a target from tokens (n,) that batch sizes (n,) in tokens need to it, with `count` draws.

    Repeats of a batch size count as their geometric mean.
    """
    means = pd.Series(np.log(tokens)).groupby(np.asarray(batch_tokens, float)).mean().sort_index()
    batch, logs = (np.asarray(of, dtype=np.float64) for of in (means.index, means))
    alone = fit_target(target, batch, logs)
    freedom = alone.fit.n_batches - PARAMETERS
    if alone.fit.batch_crit is None or freedom < 1:
        return alone
    law = np.log(alone.fit.tokens(batch))
    rest = (logs - law)[alone.used]
    pool = Pool(float(np.sqrt(rest @ rest / freedom)), freedom)
    noise = pool.sd * pool.factors(count, rng)[:, None] * rng.standard_normal((count, len(batch)))
    found = fit_target(target, batch, logs, np.where(alone.used, law, logs) + noise)
    return replace(found, sample=logs + noise)  # what is read without the law has noise about the points


def exceeds(at: AtTarget, linear: float, share: float) -> Exceeds:
    """Where tokens exceed those at a batch of `linear` tokens, taken to be of the linear regime, by a share."""
    known = np.isfinite(at.log_tokens)
    if at.fit.batch_crit is None or at.fit.status != "ok":
        return Exceeds(why="there is no law at this target")
    measured = at.batch_tokens[known]
    if not measured[0] <= linear <= measured[-1]:
        return Exceeds(why=f"the batch of the linear regime, {linear:,.0f} tokens, is outside those measured")
    value = (1 + share) * linear + share * at.fit.batch_crit.value
    drawn = None if at.drawn is None else (1 + share) * linear + share * at.drawn[0]
    if value > measured[-1]:
        return Exceeds(why=f"no batch measured needs {share:.0%} more tokens")
    return Exceeds(Estimate.of(value, drawn), _read(at, linear, share), drawn=drawn)


def _read(at: AtTarget, linear: float, share: float) -> Estimate | None:
    """Where log T over log B, straight between batch sizes, first passes that at the linear batch by log(1 + share)."""
    value = _crossing(at, at.log_tokens[None], linear, share)[0]
    if not np.isfinite(value):
        return None
    drawn = None if at.sample is None else _crossing(at, at.sample, linear, share)
    if drawn is None or np.isfinite(drawn).mean() < 1 - TAIL:
        return Estimate(float(value))
    return Estimate.of(float(value), drawn[np.isfinite(drawn)])


def _crossing(at: AtTarget, logs: Floats, linear: float, share: float) -> Floats:
    """In tokens, of log T (R, J); NaN where none is passed."""
    known = np.isfinite(at.log_tokens)
    x, y = np.log(at.batch_tokens[known]), logs[:, known]
    start = np.log(linear)
    after = x > start
    at_start = np.array([np.interp(start, x, row) for row in y])
    x = np.concatenate([[start], x[after]])
    rise = np.concatenate([np.zeros((len(y), 1)), y[:, after] - at_start[:, None]], axis=1) - np.log1p(share)
    first = np.argmax(rise >= 0, axis=1)
    rows = np.arange(len(y))
    low, high = rise[rows, first - 1], rise[rows, first]
    with np.errstate(invalid="ignore", divide="ignore"):
        place = x[first - 1] - low / (high - low) * (x[first] - x[first - 1])
    return np.where((rise >= 0).any(axis=1), np.exp(place), np.nan)
