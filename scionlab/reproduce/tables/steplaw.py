"""Step Law's sweeps: best rate and batch over sizes and budgets."""

from pathlib import Path

from analysis.fits.intervals import Estimate
from analysis.laws.joint import JointLaw
from scionlab.api import fit, import_table
from scionlab.reproduce.declare import Ours, Published, PublishedTable

MAP = {"n_params": "N", "tokens": "D", "batch_size": "bs", "steps": "ti", "val_loss": "smooth loss"}
SEQ_LEN = 2048
PROFILE = "profile"
BANDS = {0.1: 0.68, 0.25: 0.615, 0.5: 0.49}  # percent of the lowest loss: exponent of the batch in D, without N
AT = {"n_params": 1e9, "tokens": 1e11}
RATE, BATCH = 1.79 * 1e9**-0.713 * 1e11**0.307, 0.58 * 1e11**0.571  # the published laws there
BY_BAND = (
    "The exponent hangs on how the optimum is read: the wider the band of losses that count as best, the flatter the "
    "law. The published one lies between those of the bands of 0.25 and 0.5%."
)


def _fit(path: Path | None) -> Ours:
    assert path is not None, "it has columns"
    table = import_table(path, map=MAP, set={"seq_len": SEQ_LEN})
    (found,) = fit("joint-scaling", table).sources  # type: ignore[attr-defined]
    laws = {(law.quantity, law.reading): law for law in found.laws}
    lr, batch = laws["lr", PROFILE].law, laws["batch_tokens", PROFILE].without_n
    bands = {_of_band(band): laws["batch_tokens", f"band {band:g}%"].without_n for band in BANDS}
    return {
        "exponent of the rate in N": _exponent(lr, "n_params"),
        "exponent of the rate in D": _exponent(lr, "tokens"),
        "rate at 1e9 parameters, 1e11 tokens": _at(lr),
        "exponent of the batch in D": _exponent(batch, "tokens"),
        "batch at 1e11 tokens": _at(batch),
        **{name: _exponent(law, "tokens") for name, law in bands.items()},
    }


def _of_band(band: float) -> str:
    return f"exponent of the batch in D, band of {band:g}%"


def _exponent(law: JointLaw | None, resource: str) -> Estimate | None:
    term = None if law is None else law.term(resource)
    return None if term is None else term.exponent


def _at(law: JointLaw | None) -> Estimate | None:
    if law is None:
        return None
    at = law.predict(**AT)
    ends = (None, None) if at.low is None or at.high is None else (float(at.low), float(at.high))
    return Estimate(float(at.value), *ends)


TABLE = PublishedTable(
    name="steplaw",
    title="Best rate and batch over sizes and budgets",
    source="Step Law, arXiv 2503.04715",
    how="Published are lr = 1.79 N^-.713 D^.307 and B = .58 D^.571 tokens a step, of 1,911 dense runs. Study "
    "joint-scaling: optima of 17 sizes and budgets, read by curves over rates and a parabola over batch sizes, or as "
    "the mean of the runs within a band of the lowest loss. The published law of the batch has no N, and ours here is "
    "the one without.",
    fit=_fit,
    columns=("lr", "bs", "ti", "D", "N", "smooth loss"),
    without=("topk",),
    fetch="the dense runs of arXiv 2503.04715, one row each, with D, N, lr and bs in sequences of 2,048 tokens",
    values=(
        Published("exponent of the rate in N", -0.713, -0.774, -0.655),
        Published("exponent of the rate in D", 0.307, 0.271, 0.345),
        Published("rate at 1e9 parameters, 1e11 tokens", RATE, form=".2e", where="by the published law"),
        Published("exponent of the batch in D", 0.571, 0.534, 0.606, why=BY_BAND),
        Published("batch at 1e11 tokens", BATCH, unit="tokens", form=".3g", where="by the published law", why=BY_BAND),
        *(Published(_of_band(band), value, where="of bands of that width") for band, value in BANDS.items()),
    ),
)
