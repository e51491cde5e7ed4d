"""Code made of a graph: its numbers, and `scionlab doctor --full`, whose workers find it in PyTorch's cache on disk.

Both are of one trial and in one file, whose tests run one after the other, so that it is compiled once: that takes most
of a minute of a processor. A worker of Ray that does not find it compiles it again, which is slower and not wrong.
"""

import json
import shutil

import pytest
from trainings import numbers

from scionlab import training
from scionlab.doctor.software import TINY
from scionlab.problems.data import load
from scionlab.spec import Trial
from scionlab.training import graphs

# what says how a trial was trained, and how long that took
HOW = ("compiled", "compile_s", "compile_note")
# Four steps whose sums are grouped differently in float32 (2^-24 each) and multiplied by at most a few hundred on their
# way through a network and its steps.
ROUNDING = 2e-5


@pytest.mark.slow
@pytest.mark.filterwarnings("default")  # those of the compiler are its own
@pytest.mark.skipif(shutil.which(graphs.CXX) is None, reason="there is no C++ compiler")
def test_compiled_code_gives_the_numbers_of_eager_mode_and_the_same_bits_every_time(monkeypatch):
    monkeypatch.setattr(graphs, "_GRAPHS", {})
    trial = training.resolve(Trial(**TINY))
    first, again, eager = (training.train(trial, load(trial.data), compiled) for compiled in (True, True, False))
    assert first.summary["compile_note"] is None
    assert first.summary["compiled"]
    assert first.summary["compile_s"] > 0 == again.summary["compile_s"] == eager.summary["compile_s"]
    assert first.summary["val_loss"] == pytest.approx(eager.summary["val_loss"], rel=ROUNDING)
    losses, rates = ([[row[name] for row in one.curve] for one in (first, eager)] for name in ("train_loss", "lr"))
    assert losses[0] == pytest.approx(losses[1], rel=ROUNDING)
    assert rates[0] == rates[1]
    assert len(rates[0]) == 4
    strip = [{key: value for key, value in numbers(outcome)[0].items() if key not in HOW} for outcome in (first, again)]
    assert strip[0] == strip[1]
    assert first.curve == again.curve


@pytest.mark.slow
def test_in_full_it_trains_under_ray(call):
    done = call("doctor", "--json", "--full")
    document = json.loads(done.out)
    assert done.code == (1 if document["problems"] else 0)
    found = {check["name"]: check for check in document["checks"]}
    assert found["sweep"]["level"] == "ok"
    assert found["sweep"]["found"].startswith("two trials under Ray took ")
    assert found["torch.compile"]["level"] == ("ok" if found["compiler"]["level"] == "ok" else "warning")
