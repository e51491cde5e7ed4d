"""Where a plan starts from: a base and the fits behind it, of the results that hold them.

With the size of the large network a joint-scaling fit is used, if there is one. The base is then the batch-scaling fit
of the nearest measured size, unless its best setting lies at the edge of its grid; else the nearest optimum, in octaves
of N and T, of the joint-scaling fit.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from analysis.laws.evidence import FILE as BATCH_FILE
from analysis.laws.evidence import Evidence, optimizer_of, read_evidence
from analysis.laws.joint_evidence import JOINT_FILE, JointEvidence, read_joint
from analysis.laws.rules import Point
from scionlab.errors import UserError, argument


@dataclass(frozen=True)
class Start:
    """A base, None where nothing was measured that could be one; the fits; and a sentence on what the base is."""

    base: Point | None
    evidence: Evidence | None = None
    joint: JointEvidence | None = None
    origin: str = ""


def read_start(results: Path, optimizer: str | None, experiment: str | None, resources: Mapping[str, float]) -> Start:
    """What results/fits holds for a large run: `resources` has its tokens and what is known of n_params, depth, width.

    `optimizer` and `experiment` are needed where there are several. UserError as of `read_evidence` and `read_joint`,
    and where there is nothing but a joint-scaling fit and the size is not known.
    """
    n_params = resources.get("n_params")
    if n_params is None:
        fits, some = results / "fits", experiment or "*"
        if not any(fits.glob(f"{some}/{BATCH_FILE}")) and any(fits.glob(f"{some}/{JOINT_FILE}")):
            raise UserError(
                f"{argument('params')}: is missing; {str(fits)!r} holds a law of sizes and tokens, which needs the size"
            )
        alone = read_evidence(results, optimizer, experiment)
        return Start(alone.base, alone)
    joint = read_joint(results, None if optimizer is None else optimizer_of(optimizer), experiment)
    if joint is None:
        if not any((results / "fits").glob(f"{experiment or '*'}/{BATCH_FILE}")):
            raise UserError(
                f"results: there is neither a {BATCH_FILE} nor a {JOINT_FILE} in a folder of "
                f"{str(results / 'fits')!r}; `scionlab fit --results {results}` writes them"
            )
        return _fitted(read_evidence(results, optimizer, experiment, n_params), None)
    evidence: Evidence | None = None
    if (results / "fits" / joint.experiment / BATCH_FILE).is_file():
        evidence = read_evidence(results, optimizer or joint.source, joint.experiment, n_params)
    nearest = joint.nearest(resources)
    if evidence is not None and not (evidence.at_edge and nearest):
        return _fitted(evidence, joint)
    if nearest is None:
        return Start(None, None, joint)
    origin = (
        f"base: the optimum at {nearest.n_params:.4g} parameters and {nearest.tokens:.4g} tokens, the nearest of the "
        f"joint-scaling fit of {joint.source!r} in {joint.experiment!r}"
    )
    if nearest.seq_len == 1:
        origin += "; its batch size is in tokens, as sequence lengths differ or are not known"
    return Start(nearest, None, joint, origin)


def _fitted(evidence: Evidence, joint: JointEvidence | None) -> Start:
    size = evidence.base.n_params
    near = "" if size is None else f", {size:.4g} parameters, the nearest size with a base point"
    return Start(evidence.base, evidence, joint, f"base: the batch-scaling fit of {evidence.optimizer!r}{near}")
