"""The parts of README and docs that follow from the code: the data dictionary, grids of experiments and their costs.

    python docs/tools/generate.py            # rewrites them in place

A generated part stands between two comments, `<!-- generated: NAME -->` and `<!-- end -->`; `PARTS` says what each NAME
stands for. A test holds the pages to it.
"""

import math
import re
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from analysis.laws.kappa import KappaBst
from analysis.laws.rules import ABSOLUTE, RIVALS, RULES, Rule
from scionlab.problems.data import DataShape
from scionlab.runs.schema import data_dictionary
from scionlab.spec import Preset, Trial
from scionlab.spec.loading import load_experiment, load_transfer
from scionlab.training.prepare import resolve, train_flops

ROOT = Path(__file__).resolve().parent.parent.parent
PART = re.compile(r"(<!-- generated: (\S+)(?: (\S+))? -->\n).*?(<!-- end -->)", flags=re.DOTALL)
# Shapes of the data that presets for GPUs read, by a part of their names: what they cost is known without the files.
SHAPES = {
    "fineweb10B": DataShape("text", 50304),
    "shakespeare_char": DataShape("text", 65),
    "cifar-10": DataShape("image", 10, (3, 32, 32)),
    "imagenet": DataShape("image", 1000, (3, 224, 224)),
}
# An H100's peak, operations a second by precision, and the share of it that a run is taken to reach.
PEAKS, UTILIZATION = {"auto": 989e12, "float32": 67e12}, 0.4
MOST = 8  # values of a field that are listed one by one


def grids(name: str) -> str:
    """Markdown: the presets of the experiment called `name`, and what varies in the default one."""
    presets = load_experiment(name).presets
    lines = ["| preset | trials | tokens in all | |", "|---|---|---|---|"]
    for preset_name, preset in presets.items():
        tokens = sum(trial.exact_tokens for trial in preset.trials)
        lines.append(f"| `{preset_name}` | {len(preset.trials):,} | {_short(tokens)} | {preset.about} |")
    lines += ["", "What varies in `laptop`:", "", "| field | values |", "|---|---|"]
    lines += [f"| `{field}` | {text} |" for field, text in _varied(presets["laptop"])]
    return "\n".join(lines) + "\n"


def costs(name: str) -> str:
    """Markdown: operations and hours of the presets for GPUs of the experiment called `name`, by its trials' sizes."""
    heads = ("preset", "width", "trials", "FLOPs of one", "of all", "GPU hours of one", "of all")
    lines = [f"| {' | '.join(heads)} |", f"|{'---|' * len(heads)}"]
    for preset_name, preset in load_experiment(name).presets.items():
        sizes = dict.fromkeys(trial.width for trial in preset.trials if preset_name.startswith("gpu"))
        for width in sizes:
            trials = [trial for trial in preset.trials if trial.width == width]
            flops = [_flops(trial) for trial in trials]
            hours = [f / PEAKS[t.dtype] / UTILIZATION / 3600 for f, t in zip(flops, trials, strict=True)]
            work = f"{max(flops):.2g} | {sum(flops):.2g} | {_hours(max(hours))} | {_hours(sum(hours))}"
            lines.append(f"| `{preset_name}` | {width} | {len(trials)} | {work} |")
    return "\n".join(lines) + "\n"


def _flops(trial: Trial) -> int:
    """Operations of the trial's gradients, the data unseen."""
    (shape,) = (shape for part, shape in SHAPES.items() if part in trial.data)
    return train_flops(resolve(trial.replace(device="cpu", dtype="float32")), shape)


def _hours(hours: float) -> str:
    return f"{hours:.0f}" if hours >= 10 else f"{hours:.2g}"


def searches(name: str) -> str:
    """Markdown: the presets of an experiment that searches for values, and the ranges of the default one."""
    presets = load_transfer(name).presets
    lines = ["| preset | methods | searches | trials a search | targets | |", "|---|---|---|---|---|---|"]
    for preset_name, preset in presets.items():
        targets = "; ".join(f"{place}: {_fields(fields)}" for place, fields in preset.targets.items())
        counts = f"{len(preset.methods)} | {len(preset.search_seeds)} | {preset.trials}"
        lines.append(f"| `{preset_name}` | {counts} | {targets} | {preset.about} |")
    laptop = presets["laptop"]
    lines += ["", f"The proxy of `laptop` has {_fields(laptop.proxy)}. What is searched, on a log scale:", ""]
    lines += ["| method | ranges |", "|---|---|"]
    for method_name, method in laptop.methods.items():
        ranges = (f"{field} {_value(low)} to {_value(high)}" for field, (low, high) in method.space.items())
        lines.append(f"| `{method_name}` | {'; '.join(ranges)} |")
    return "\n".join(lines) + "\n"


def _fields(fields: Mapping[str, Any]) -> str:
    return ", ".join(f"{name} {_value(value)}" for name, value in fields.items())


def _varied(preset: Preset) -> list[tuple[str, str]]:
    rows = [_flat(trial) for trial in preset.trials]
    fields = dict.fromkeys(field for row in rows for field in row)
    found = []
    for field in fields:
        values = list(dict.fromkeys(row.get(field) for row in rows))
        if len(values) > 1:
            found.append((field, _listed(values)))
    return found


def _flat(trial: Trial) -> dict[str, Any]:
    """Fields, options each on their own, and how many stages come after the first."""
    apart = ("options", "sampler_options", "stages", "rules")
    fields = {name: getattr(trial, name) for name in Trial.model_fields if name not in apart}
    fields |= {f"options.{name}": value for name, value in trial.options.items()}
    fields |= {f"sampler_options.{name}": value for name, value in trial.sampler_options.items()}
    fields["stages"], fields["rules"] = len(trial.stages), " ".join(trial.rules)
    return fields


def _listed(values: Iterable[Any]) -> str:
    """Numbers in order, the others as they come; with many numbers only their ends."""
    values = list(values)
    present = [value for value in values if value not in (None, "")]
    numbers = all(isinstance(value, int | float) and not isinstance(value, bool) for value in present)
    ordered = sorted(present) if numbers else present
    texts = [_value(value) for value in ordered]
    if numbers and len(texts) > MOST:
        return f"{texts[0]} to {texts[-1]}, {len(texts)} values"
    return ", ".join(texts + ["unset"] * (len(present) < len(values)))


def _value(value: Any) -> str:
    """Small fractions and large counts that are powers of two as such."""
    if isinstance(value, int | float) and (0 < value < 1 / 2 or value >= 2**10) and math.log2(value).is_integer():
        return f"2^{int(math.log2(value))}"
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _short(tokens: int) -> str:
    for size, unit in ((10**9, "G"), (10**6, "M"), (10**3, "k")):
        if tokens >= size:
            return f"{tokens / size:.3g}{unit}"
    return str(tokens)


def rules() -> str:
    """Markdown: every rule of `scionlab plan` with its formula, source, what it needs, and how sure it is."""
    lines = ["| rule | formula | source | certainty | needs |", "|---|---|---|---|---|"]
    extra = KappaBst(exponent=0.0)
    main = [RULES["bst"], extra, *(rule for rule in RULES.values() if rule.name != "bst")]
    return "\n".join([*lines, *(_rule(rule) for rule in (*main, *(RIVALS | ABSOLUTE).values()))]) + "\n"


def _rule(rule: Rule) -> str:
    needs = ["--kappa-batch-exponent"] if rule.name == "bst-kappa" else [f"--{need}" for need in rule.needs]
    note = f"; {rule.note}" if rule.note else ""
    cells = (
        f"`{rule.name}`",
        rule.title,
        f"{rule.source}{note}",
        rule.certainty,
        " ".join(f"`{need}`" for need in needs),
    )
    return f"| {' | '.join(cells)} |"


PARTS: dict[str, Callable[..., str]] = {
    "data-dictionary": data_dictionary,
    "grids": grids,
    "costs": costs,
    "searches": searches,
    "rules": rules,
}


def pages() -> list[Path]:
    """README and everything in docs/."""
    return [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]


def generated(text: str) -> str:
    """A page with its generated parts as they should be."""

    def part(match: re.Match[str]) -> str:
        opening, name, argument, end = match.groups()
        made = PARTS[name](*([argument] if argument else []))
        return f"{opening}\n{made.strip()}\n\n{end}"

    return PART.sub(part, text)


def main() -> None:
    """Rewrite every page whose generated parts have changed."""
    for page in pages():
        old = page.read_text(encoding="utf-8")
        new = generated(old)
        if new != old:
            page.write_text(new, encoding="utf-8")
            print(page.relative_to(ROOT))


if __name__ == "__main__":
    main()
