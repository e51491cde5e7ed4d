import shlex
from dataclasses import replace

import pytest

from analysis.fits.advice import (
    NAMED,
    OF_THE_FILE,
    SENTENCES,
    TO_A_FILE,
    TO_A_TABLE,
    Extension,
    Larger,
    Source,
    advise,
    command,
)
from analysis.fits.outcomes import SETTLED, Judgement, Lacks, Missing, Outcome, Seeds

BUILT_IN = Source("run", ("width",), "width", "laptop", larger=Larger("full", 3))
LARGEST = Source("run", ("width",), "width", "full")
ELSEWHERE = Source("run", ("batch", "--optimizer", "muon"), "batch-muon", "laptop", ("--results", "/data/my runs"))
EXTENDED = Source("run", ("width",), "width", "laptop", larger=Larger("full", 3), extension=Extension(5, 2, True))
OWN = Source("run", ("PATH.py",), "mine", "laptop")
IMPORTED = Source("imported", ("PATH.py",), "theirs", "imported")
TRANSFER = Source("transfer", ("transfer",), "transfer", "laptop", larger=Larger("full", 8), trials=24)


def lacks(*missing, needed=4, present=2):
    return Lacks.of(missing, Seeds(present, needed) if Missing.SEEDS in missing else None)


SEEDS, BEYOND, CLOSER = Missing.SEEDS, Missing.RATES_BEYOND, Missing.RATES_CLOSER


@pytest.mark.parametrize(
    ("source", "what", "expected"),
    [
        (BUILT_IN, SETTLED, None),
        (BUILT_IN, lacks(SEEDS), "scionlab run width --preset laptop --seeds 4"),
        (BUILT_IN, lacks(BEYOND), "scionlab run width --preset laptop --more-rates 1"),
        (BUILT_IN, lacks(CLOSER), "scionlab run width --preset laptop --finer-rates"),
        (
            BUILT_IN,
            lacks(SEEDS, BEYOND, CLOSER),
            "scionlab run width --preset laptop --seeds 4 --more-rates 1 --finer-rates",
        ),
        (BUILT_IN, lacks(SEEDS, needed=9), None),  # too many to ask for
        (BUILT_IN, lacks(SEEDS, BEYOND, needed=None), "scionlab run width --preset laptop --more-rates 1"),
        (BUILT_IN, lacks(Missing.RUNS), "scionlab run width --preset laptop"),
        (BUILT_IN, lacks(Missing.STABLE_RATES), None),
        (BUILT_IN, lacks(Missing.PLACES), "scionlab run width --preset full"),
        (BUILT_IN, lacks(Missing.BUDGETS, SEEDS, BEYOND, needed=3), "scionlab run width --preset full --more-rates 1"),
        (BUILT_IN, lacks(Missing.LONGER, SEEDS), "scionlab run width --preset full --seeds 4"),
        (LARGEST, lacks(Missing.BATCHES), None),
        (
            ELSEWHERE,
            lacks(SEEDS),
            "scionlab run batch --optimizer muon --preset laptop --seeds 4 --results '/data/my runs'",
        ),
        (EXTENDED, lacks(BEYOND), "scionlab run width --preset laptop --seeds 5 --more-rates 3 --finer-rates"),
        (
            EXTENDED,
            lacks(SEEDS, needed=7, present=5),
            "scionlab run width --preset laptop --seeds 7 --more-rates 2 --finer-rates",
        ),
        (EXTENDED, lacks(CLOSER), None),  # no option makes them closer still
        (EXTENDED, lacks(Missing.RUNS), "scionlab run width --preset laptop --seeds 5 --more-rates 2 --finer-rates"),
        (EXTENDED, lacks(Missing.PLACES), "scionlab run width --preset full"),
        (OWN, lacks(SEEDS), "scionlab run PATH.py --preset laptop --seeds 4"),
        (OWN, lacks(Missing.PLACES), None),
        (IMPORTED, lacks(SEEDS, BEYOND), None),
        (TRANSFER, lacks(Missing.TRIALS), "scionlab transfer transfer --preset laptop --trials 48"),
        (
            TRANSFER,
            lacks(SEEDS),
            "scionlab tune transfer --preset full && scionlab transfer transfer --preset full",
        ),
        (TRANSFER, lacks(SEEDS, needed=12, present=4), None),  # the larger preset has 8
        (TRANSFER, lacks(BEYOND), None),
    ],
)
def test_commands(source, what, expected):
    assert command(what, source) == expected


def judged(*found):
    return [Judgement(of, Outcome.CANNOT_TELL if what.missing else Outcome.HELD, what) for of, what in found]


def test_what_is_settled_asks_for_nothing():
    advice = advise(judged(("adam", SETTLED)), BUILT_IN)
    assert (advice.lines, advice.commands, advice.again, advice.note) == ((), (), "", "")
    assert advice.outcomes == (
        {
            "of": "adam",
            "outcome": "held",
            "meaning": Outcome.HELD.meaning,
            "missing": [],
            "seeds": None,
            "advice": None,
            "command": None,
        },
    )


def test_a_sentence_names_all_it_is_for_and_one_command_adds_it_all():
    found = [("adam", lacks(SEEDS)), ("scion", lacks(SEEDS, BEYOND, needed=6)), ("muon", lacks(SEEDS, needed=None))]
    advice = advise(judged(*found), BUILT_IN)
    assert [str(line) for line in advice.lines] == [
        f"{SENTENCES[SEEDS]} For: adam; scion.",
        f"{SENTENCES[BEYOND]} For: scion.",
        "Many more seeds: at the present value 8 would not do. For: muon.",
    ]
    assert advice.commands == ("scionlab run width --preset laptop --seeds 6 --more-rates 1",)
    assert advice.again == "scionlab report width --preset laptop"
    assert advice.note == ""
    assert [each["command"] is None for each in advice.outcomes] == [False, False, True]
    assert advice.outcomes[1]["missing"] == ["seeds", "rates beyond"]
    assert advice.outcomes[1]["advice"] == f"{SENTENCES[SEEDS]} {SENTENCES[BEYOND]}"
    assert advice.outcomes[1]["seeds"] == {"present": 2, "needed": 6}


def test_a_larger_preset_that_has_no_more_of_what_is_missing_is_not_named():
    longer = replace(BUILT_IN, larger=Larger("full", 3, frozenset({Missing.LONGER})))
    lacking = Lacks.of([Missing.BUDGETS])
    assert command(lacking, BUILT_IN) == "scionlab run width --preset full"
    assert command(lacking, longer) is None
    told = advise([Judgement("exponent", Outcome.CANNOT_TELL, lacking)], longer)
    assert (told.commands, told.note) == ((), TO_A_FILE)
    both = advise([Judgement("exponent", Outcome.CANNOT_TELL, Lacks.of([Missing.BUDGETS, Missing.LONGER]))], longer)
    assert (both.commands, both.note) == (("scionlab run width --preset full",), TO_A_FILE)


def test_what_needs_a_larger_preset_comes_after_what_does_not():
    found = [("a", lacks(Missing.BUDGETS)), ("b", lacks(CLOSER))]
    advice = advise(judged(*found), BUILT_IN)
    assert advice.commands == ("scionlab run width --preset laptop --finer-rates", "scionlab run width --preset full")
    assert advice.again.endswith("--preset laptop")
    assert advise(judged(found[0]), BUILT_IN).again.endswith("--preset full")


@pytest.mark.parametrize(
    ("source", "what", "note"),
    [
        (LARGEST, lacks(Missing.BATCHES), TO_A_FILE),
        (BUILT_IN, lacks(Missing.STABLE_RATES, BEYOND), TO_A_FILE),
        (OWN, lacks(SEEDS), OF_THE_FILE),
        (OWN, lacks(SEEDS, Missing.PLACES), f"{OF_THE_FILE} {TO_A_FILE}"),
        (IMPORTED, lacks(SEEDS), TO_A_TABLE),
        (TRANSFER, lacks(SEEDS, needed=12, present=4), TO_A_FILE),
    ],
)
def test_what_no_command_adds(source, what, note):
    advice = advise(judged(("adam", what)), source)
    assert advice.note == note
    assert advice.lines
    assert bool(advice.commands) == bool(advice.again) == (command(what, source) is not None)


def test_many_names_are_counted():
    (line,) = advise(judged(*((f"a{i}", lacks(BEYOND)) for i in range(NAMED + 3))), BUILT_IN).lines
    assert str(line).endswith("; a5; 3 more.")
    assert len(line.of) == NAMED + 3


def test_every_kind_has_a_sentence_and_every_command_can_be_read_by_a_shell():
    assert set(SENTENCES) == set(Missing)
    for source in (BUILT_IN, ELSEWHERE, OWN, TRANSFER):
        for kind in Missing:
            text = command(lacks(kind), source)
            assert text is None or shlex.split(text)[0] == "scionlab"
