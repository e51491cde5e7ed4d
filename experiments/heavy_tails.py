"""Which Schatten norm under which noise? A convex problem whose gradients come with a tail that is chosen.

f(W) = ‖W − W*‖_F²/(2d), and the noise of every entry is normal, or Student's t with moments below 1.6 or 1.3 only.
Theory (arXiv 2606.14560) has Schatten-p norms get better with p up to p̂/(p̂ − 1), p̂ the tail index, and not beyond,
where dimensions are the price: under t noise of 1.3 larger p should win, under normal noise all should be alike.
Norms are means over the singular values, so that a step is as long for every p. Rate and momentum are tuned for each.
"""

from collections.abc import Iterable
from typing import Any

from experiments.schatten import names
from scionlab.grid import log2_range, trials
from scionlab.spec import Experiment, Preset, Trial

POWERS = ("1.5", "2", "3", "4", "8", "inf")
MOMENTA = (0.03, 0.1, 0.3, 1.0)
LIGHT, HEAVY, HEAVIEST = "noise:gaussian-0.1", "noise:t1.6-0.1", "noise:t1.3-0.1"
MARGIN = 0.25  # octaves of f, a fifth, that count as no loss
# Others than those that noise, length and rates of the grid were chosen by.
SEEDS = range(10, 14)


def grid(
    powers: Iterable[str],
    noises: Iterable[str],
    momenta: Iterable[float],
    rates: Iterable[float],
    seeds: Iterable[int],
    steps: int,
    width: int = 24,
) -> tuple[Trial, ...]:
    """Every p × noise × momentum × learning rate × seed, one sample a step."""
    sizes: dict[str, Any] = {"model": "quadratic", "optimizer": "uscion", "width": width, "tokens": steps}
    sizes |= {"batch_size": 1, "seq_len": 1, "val_seq_len": 1, "val_tokens": 1}
    return tuple(
        trial
        for p in powers
        for noise in noises
        for trial in trials(
            {"data": noise, "options": {"norm_output": f"schatten-mean-{p}", "radius_output": 1.0}, **sizes},
            momentum=list(momenta),
            lr=list(rates),
            seed=list(seeds),
        )
    )


def _claim(kind: str, of: str, than: str, at: str, text: str) -> dict[str, Any]:
    margin = {"margin": MARGIN} if kind == "no-worse" else {}
    return {"kind": kind, "of": of, "than": than, "at": at, "text": text, **margin}


SPEC = Experiment(
    name="heavy-tails",
    title="Schatten norms under heavy-tailed noise",
    question="Do larger Schatten norms win under heavy tails, up to where theory says, and only there?",
    study="comparison",
    settings={
        "arms": ["options.norm_output"],
        "across": "data",
        "tuned": ["momentum"],
        "metric": "log2_loss",
        "labels": names(POWERS),
        "claims": [
            _claim("better", "p = ∞", "p = 2", HEAVIEST, "Under t noise of 1.3, p = ∞ beats p = 2"),
            _claim("better", "p = ∞", "p = 2", HEAVY, "Under t noise of 1.6, p = ∞ beats p = 2"),
            _claim("no-worse", "p = 4", "p = ∞", HEAVIEST, "Under t noise of 1.3, nothing is gained beyond p = 4.3"),
            _claim("no-worse", "p = 3", "p = ∞", HEAVY, "Under t noise of 1.6, nothing is gained beyond p = 2.7"),
            _claim("no-worse", "p = 2", "p = ∞", LIGHT, "Under normal noise p = 2 is as good as p = ∞"),
        ],
    },
    presets={
        "smoke": Preset(
            about="four p, three noises, one momentum, seconds",
            trials=grid(("2", "3", "4", "inf"), (LIGHT, HEAVY, HEAVIEST), (0.3,), log2_range(-8, -7), SEEDS[:2], 64, 8),
        ),
        "laptop": Preset(
            about="six p, three noises, four momenta, eight rates, four seeds, about seven minutes on two cores",
            trials=grid(POWERS, (LIGHT, HEAVY, HEAVIEST), MOMENTA, log2_range(-10, -3), SEEDS, 512),
        ),
        "full": Preset(
            about="width 64, 2,048 steps, eight seeds; a few hours on a workstation",
            trials=grid(POWERS, (LIGHT, HEAVY, HEAVIEST), MOMENTA, log2_range(-12, -4), range(10, 18), 2**11, 64),
        ),
        "gpu": Preset(
            about="width 256, 2,048 steps; the problem is too small to need a GPU",
            trials=grid(POWERS, (LIGHT, HEAVY, HEAVIEST), MOMENTA, log2_range(-12, -4), range(10, 18), 2**11, 256),
        ),
    },
)
