"""What to distrust in a plan: how far it is from what was measured, and what a rule cannot know."""

import math
from collections.abc import Mapping

from analysis.fits.outcomes import Outcome
from analysis.laws.evidence import Evidence
from analysis.laws.joint import WORDS
from analysis.laws.joint_evidence import JointEvidence
from analysis.laws.proposals import Proposal
from analysis.laws.rules import Point, Rule

FAR = 10  # a budget or a size this many times beyond the measured ones is called far
SAME = 0.01  # sizes that differ by less are one
# What the value of a resource is called, and one that was measured.
AXES = {
    "n_params": ("{:.4g} parameters are", "size"),
    "tokens": ("{:.4g} tokens are", "budget"),
    "depth": ("depth {:.4g} is", "depth"),
    "width": ("width {:.4g} is", "width"),
}


def distance(base: Point | None, tokens: float, evidence: Evidence | None) -> list[str]:
    """What to distrust in the base point and in the way from it to the plan."""
    if base is None:
        return []
    texts = []
    low, high = evidence.tokens if evidence else (float(base.tokens), float(base.tokens))
    if tokens > FAR * high:
        texts.append(f"{tokens:.4g} tokens are {tokens / high:.0f} times the largest budget measured ({high:.4g})")
    if tokens < low / FAR:
        texts.append(
            f"{tokens:.4g} tokens are {low / tokens:.0f} times less than the smallest budget measured ({low:.4g})"
        )
    if evidence is None:
        return texts
    name = repr(evidence.optimizer)
    if evidence.at_edge:
        texts.append(f"the base point of {name} lies at the edge of its grid: the best batch size or lr may lie beyond")
    elif not evidence.resolved:
        texts.append(f"the base point of {name} is not resolved by its grid")
    if evidence.power_law is None:
        texts.append(f"the fit of {name} has no free power law: that needs optima at two or more budgets")
    return texts


def of_proposal(proposal: Proposal, tokens: float, optimizer: str | None) -> list[str]:
    """What to distrust in one proposal."""
    name, texts = proposal.rule.name, []
    if proposal.exact.batch_size < 1:
        texts.append(f"{name}: the batch is {proposal.exact.batch_size:.3g} of a sequence; at least one was taken")
    if proposal.rounded.batch_tokens > tokens:
        step = proposal.rounded.batch_tokens
        texts.append(f"{name}: one step of {step:.4g} tokens is more than the whole budget of {tokens:.4g}")
    if proposal.cut_off:
        texts.append(f"{name}: its momentum is above 1, the weight of a gradient without memory; 1 was taken")
    adam = optimizer is not None and optimizer.startswith("adam")
    if name.startswith(("steplaw", "deepseek-absolute")) and not adam:
        texts.append(f"{name} was measured for AdamW: for another optimizer it is a comparison, not advice")
    return texts


def of_joint(joint: JointEvidence, resources: Mapping[str, float]) -> list[str]:
    """How far outside the measured sizes and budgets the joint law is asked, and what it leaves open.

    resources: of the large run, by name; those that the law has no range of do not matter.
    """
    texts = []
    for axis, (low, high) in joint.measured.items():
        (what, one), value = AXES[axis], resources[axis]
        times = joint.beyond(axis, value)
        if times > 1:
            texts.append(f"{what.format(value)} {times:.3g} times the largest {one} of the joint law ({high:.4g})")
        elif times < 1:
            texts.append(f"{what.format(value)} {1 / times:.3g} times less than its smallest {one} ({low:.4g})")
    texts = [f"joint-law: {text}; no interval knows whether it holds there" for text in texts]
    for name, law in joint.laws.items():
        if law.resampled is None:
            texts.append(f"joint-law: too few optima for an interval of the {WORDS[name]}")
        if joint.verdicts[name] == Outcome.CANNOT_TELL:
            texts.append(f"joint-law: whether the {WORDS[name]} depends on N is open")
    return texts


def of_unused(joint: JointEvidence | None, further: Mapping[str, float]) -> list[str]:
    """What is given of the large network and no rule takes."""
    known = () if joint is None else joint.measured
    return [f"{name} {value:g} is not used: no rule here has a term of it" for name, value in further.items()
            if name not in known]  # fmt: skip


def of_size(base: Point | None, n_params: float | None, rules: list[Rule]) -> list[str]:
    """That rules of T alone keep what they say where the network grows."""
    if base is None or base.n_params is None or n_params is None or abs(n_params / base.n_params - 1) < SAME:
        return []
    blind = [rule.name for rule in rules if not rule.knows_size]
    if not blind:
        return []
    do, leave = ("does", "leaves") if len(blind) == 1 else ("do", "leave")
    return [
        f"the network is {n_params / base.n_params:.3g} times that of the base ({base.n_params:.4g} parameters); "
        f"{', '.join(blind)} {do} not know sizes and {leave} lr as for the base's network, which is right where it "
        "transfers across sizes (μP and the like)"
    ]


def is_far(joint: JointEvidence, resources: Mapping[str, float]) -> bool:
    """Whether a size or a budget is more than `FAR` times outside the measured ones."""
    return any(abs(math.log(joint.beyond(axis, resources[axis]))) > math.log(FAR) for axis in joint.measured)
