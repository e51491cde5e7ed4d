"""Small trials on a corpus of four words, with and without stages; what two runs of one must share."""

import io

import numpy as np
import torch

from scionlab import training
from scionlab.problems.data import Corpus
from scionlab.spec import Stage, Trial

TIMES = ("wall_time_s", "tokens_per_s")  # the only columns that may differ between two runs of a trial
# rates at which each trains well here, to an octave or two
TUNED = {
    "adam": 2**-7, "adam-mup": 2**-7, "muon": 2**-5, "scion": 2**-6, "uscion": 2**-6, "scion-light": 2**-6,
    "clipped-scion": 2**-6, "clipped-uscion": 2**-6, "almond": 2**-5, "sgd": 2, "normalized-sgd": 2**-2,
    "signum": 2**-6, "sign-sgd": 2**-6, "linf-descent": 2**-12, "spectral-descent": 2**-3, "shampoo": 2**-3,
    "adagrad": 2**-4, "rmsprop": 2**-6, "normuon": 2**-5, "adamuon": 2**-5, "muon-hyperball": 2**-5, "adago": 2**-3,
}  # fmt: skip


def words(count: int = 20_000) -> Corpus:
    drawn = np.random.default_rng(0).choice([b"alpha ", b"beta ", b"gamma ", b"delta\n"], count)
    return Corpus("words", "0" * 64, b"".join(drawn[: count * 9 // 10]), b"".join(drawn[count * 9 // 10 :]))


CORPUS = words()


def trial(optimizer: str = "adam", steps: int = 8, **fields) -> Trial:
    sizes = {"width": 32, "batch_size": 8, "seq_len": 32, "val_tokens": 1024, "val_seq_len": 32} | fields
    tokens = fields.get("tokens", steps * sizes["batch_size"] * sizes["seq_len"])
    values = {"lr": TUNED[optimizer], "device": "cpu", "dtype": "float32"} | sizes | {"tokens": tokens}
    return training.resolve(Trial(optimizer=optimizer, **values))


def run(*args, **fields) -> training.Outcome:
    return training.train(trial(*args, **fields), CORPUS)


def numbers(outcome: training.Outcome):
    return {key: value for key, value in outcome.summary.items() if key not in TIMES}, outcome.curve


SIZES = {"width": 16, "head_dim": 8, "depth": 1, "batch_size": 2, "seq_len": 16, "val_tokens": 256, "val_seq_len": 16}
SAME_LENGTH, OTHER_LENGTH = (4, 4, 16, 2**-6), (4, 2, 32, 2**-6)


def staged(optimizer: str = "adam", *stages: tuple[int, int, int, float], steps: int = 8, **fields):
    """A trial of `steps` steps of 2 × 16 tokens, restarted after the given steps with (batch, length, rate)."""
    later = [Stage(from_tokens=32 * k, batch_size=b, seq_len=s, lr=lr) for k, b, s, lr in stages]
    return trial(optimizer, tokens=32 * steps, stages=later, **{**SIZES, **fields})


def saved_and_loaded(state: training.Run) -> training.Run:
    file = io.BytesIO()
    torch.save(state.state_dict(), file)
    file.seek(0)
    fresh = training.Run(state.trial, CORPUS)
    fresh.load_state_dict(torch.load(file, weights_only=True))
    return fresh
