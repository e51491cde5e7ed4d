import ast
import json
from dataclasses import dataclass
from pathlib import Path

import pytest

from analysis.fits.intervals import Estimate
from analysis.fits.outcomes import SETTLED, Judgement, Lacks, Missing, Outcome, Seeds, all_of, record
from analysis.fits.seeds import more_seeds

ROOT = Path(__file__).parents[3]


def said(name):
    """Members of an enumeration that some study, or the fits it is made of, names."""
    files = [*(ROOT / "analysis" / "studies").rglob("*.py"), *(ROOT / "analysis" / "fits").glob("*.py")]
    for path in files:
        for node in ast.walk(ast.parse(path.read_text())) if path.name not in ("outcomes.py", "advice.py") else ():
            if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == name:
                yield node.attr


@pytest.mark.parametrize("words", [Outcome, Missing])
def test_every_word_is_said_by_some_study(words):
    # Seeds are what `more_seeds` says is missing.
    assert {member.name for member in words} - {"SEEDS"} == set(said(words.__name__)) - {"SEEDS"}


def test_no_study_has_words_of_its_own():
    # Single words are also columns, kinds of claims and states of trials; "not told apart" heads a column.
    words = {str(outcome) for outcome in Outcome if " " in outcome} - {"not told apart"}
    for path in (ROOT / "analysis" / "studies").glob("*/*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            assert not (isinstance(node, ast.Constant) and node.value in words), (path, node.value)


def test_a_word_is_its_text_everywhere():
    outcome = Outcome("not told apart")
    assert (outcome, f"{outcome}", json.dumps(outcome)) == (Outcome.TIED, "not told apart", '"not told apart"')
    assert outcome.open
    assert not Outcome.BEST.open
    assert all(each.meaning.endswith(".") for each in Outcome)


NARROW, WIDE = Estimate(1.0, 0.5, 1.5), Estimate(1.0, -0.4, 2.4)


def above_zero(estimate):
    return Outcome.HELD if estimate.low > 0 else Outcome.CANNOT_TELL


@pytest.mark.parametrize(
    ("estimate", "present", "groups", "needed"),
    [
        (WIDE, 2, None, 4),  # 1.4 √(2/n) < 1 from n = 4 on
        (Estimate(1.0, -0.8, 2.8), 2, None, 7),  # 1.8 √(2/n) < 1
        (Estimate(1.0, -1.0, 3.0), 2, 1, 3),  # Student's quantile falls from 12.7 to 4.3
        (Estimate(0.1, -1.0, 1.2), 2, None, 304),  # 242, in steps of a quarter
        (Estimate(0.0, -1.0, 1.0), 2, None, None),
        (Estimate(1.0), 1, None, 3),
        (Estimate(1.0), 4, None, 8),
        (None, 2, None, 4),
    ],
)
def test_seeds_that_would_settle_an_interval(estimate, present, groups, needed):
    lacks = more_seeds(present, estimate, above_zero, groups)
    assert (lacks.missing, lacks.seeds.present) == ((Missing.SEEDS,), present)
    if needed is not None and needed > lacks.seeds.most:
        assert 242 <= lacks.seeds.needed <= needed
    else:
        assert lacks.seeds.needed == needed


def test_so_many_seeds_are_not_asked_for():
    assert [Seeds(2, 8).within_reach, Seeds(2, 9).within_reach, Seeds(4, 16).within_reach] == [True, False, True]
    assert not Seeds(2, None).within_reach


def test_what_several_lack_is_named_once_with_the_larger_need():
    rates, few, many = Lacks.of([Missing.RATES_BEYOND]), Lacks.of((), Seeds(2, 4)), Lacks.of((), Seeds(2, None))
    assert all_of([]) == SETTLED
    assert (rates | few | rates) == Lacks((Missing.SEEDS, Missing.RATES_BEYOND), Seeds(2, 4))
    assert (few | many).seeds.needed is None
    assert Judgement("adam", Outcome.CANNOT_TELL, rates).missing == (Missing.RATES_BEYOND,)


@dataclass(frozen=True)
class Found:
    verdict: Outcome
    lacks: Lacks
    parts: tuple["Found", ...] = ()


def test_what_a_result_lacks_is_in_none_of_its_tables():
    part = Found(Outcome.TIED, Lacks.of([Missing.PLACES]))
    assert record(Found(Outcome.BEST, SETTLED, (part,))) == {
        "verdict": "best",
        "parts": ({"verdict": "not told apart", "parts": ()},),
    }
