"""Which norms for the first and the last layer?

The hidden layers keep the spectral norm. Radii are matched so that a step changes the entries of a matrix by the same
root mean square, whatever the norm: that of radius 1 in the column norm for the first layer, of radius 64 in the sign
norm for the last. The balls then differ in shape alone.
"""

from collections.abc import Iterable
from math import sqrt
from typing import Any

from scionlab.grid import log2_range, trials
from scionlab.spec import Experiment, Preset, Trial

FIRST = ("column", "sign-onehot", "row", "spectral")
VOCABULARY = 256
LAST = ("sign", "column-dense", "row", "spectral")
RADIUS = 64.0


def options(first: str, last: str, width: int) -> dict[str, Any]:
    """Scion's options for these norms, with radii matched as the module says."""
    # Entries of the unit LMO of the first layer, d_out = width and d_in = VOCABULARY, in root mean square: 1 for column
    # and sign, 1/d_in for row, and for spectral √(d_out/d_in) √min/√(d_out d_in) = √min/d_in, min the smaller of both.
    # Of the last, d_out = VOCABULARY and d_in = width: 1/d_in for sign, column and row, and again √min/d_in.
    root = sqrt(min(width, VOCABULARY))
    first_radius = {"row": float(VOCABULARY), "spectral": VOCABULARY / root}.get(first, 1.0)
    last_radius = RADIUS / root if last == "spectral" else RADIUS
    return {"norm_input": first, "norm_output": last, "radius_input": first_radius, "radius_output": last_radius}


def grid(
    first: Iterable[str], last: Iterable[str], rates: list[float], seeds: Iterable[int], width: int, **fixed: Any
) -> tuple[Trial, ...]:
    """Every pair of norms × learning rate × seed."""
    last = list(last)
    return tuple(
        trial
        for norm_first in first
        for norm_last in last
        for trial in trials(
            {"optimizer": "scion", "options": options(norm_first, norm_last, width), "width": width, **fixed},
            lr=rates,
            seed=list(seeds),
        )
    )


def _claim(first: str, last: str, text: str) -> dict[str, Any]:
    """That column → sign, the recommended pair, is no worse than another by a hundredth of a nat."""
    return {
        "kind": "no-worse",
        "of": "column → sign",
        "than": f"{first} → {last}",
        "margin": 0.01,
        "text": text,
    }


LABELS = {f"{first}, {last}": f"{first} → {last}" for first in FIRST for last in LAST}

SPEC = Experiment(
    name="norm-choice",
    title="Norms of the first and the last layer",
    question="Do the norms of the first and the last layer matter, and is column → spectral → sign a good choice?",
    study="comparison",
    settings={
        "arms": ["options.norm_input", "options.norm_output"],
        "across": None,
        "labels": LABELS,
        "claims": [
            _claim(first, last, f"column → sign is no worse than {first} → {last}")
            for first, last in (
                ("sign-onehot", "sign"),
                ("spectral", "sign"),
                ("row", "sign"),
                ("column", "row"),
                ("column", "column-dense"),
                ("column", "spectral"),
            )
        ],
    },
    presets={
        "smoke": Preset(
            about="all sixteen pairs at width 16, one rate, seconds",
            trials=grid(FIRST, LAST, [2.0**-5], (0, 1), 16, tokens=2**12, val_tokens=2**12),
        ),
        "laptop": Preset(
            about="sixteen pairs of norms, five rates, four seeds, about five minutes on two cores",
            trials=grid(
                FIRST,
                LAST,
                log2_range(-7, -3),
                range(4),
                32,
                tokens=2**16,
                seq_len=32,
                val_seq_len=32,
                val_tokens=2**13,
            ),
        ),
        "full": Preset(
            about="sixteen pairs, seven rates, three seeds at width 128; a night on a workstation",
            trials=grid(FIRST, LAST, log2_range(-8, -2), range(3), 128, tokens=2**19),
        ),
        "gpu": Preset(
            about="sixteen pairs at width 512, depth 4",
            trials=grid(
                FIRST,
                LAST,
                log2_range(-12, -4),
                range(3),
                512,
                depth=4,
                head_dim=64,
                tokens=2**24,
                batch_size=32,
                seq_len=256,
                val_seq_len=256,
                val_tokens=2**18,
            ),
        ),
    },
)
