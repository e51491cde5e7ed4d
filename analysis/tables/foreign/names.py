"""Names that other programs give to what an import takes, best first: a guess that is shown, never one that is used."""

import re
from collections.abc import Iterable
from dataclasses import dataclass

from analysis.tables.foreign.sources import quoted

# Single letters, as papers write them: with their case.
LETTERS = {"N": "n_params", "D": "tokens", "C": "flops", "B": "batch_size", "K": "steps"}
# Others without case and with one sign between words. After a colon: what makes the target's unit of it.
NAMES = {
    "n_params": (
        "n_params num_params parameter_count n_parameters num_parameters parameters params model_size model_params "
        "n_params_millions:1e6* params_millions:1e6* n_params_m:1e6* params_m:1e6* n_params_billions:1e9* "
        "params_billions:1e9* params_b:1e9*"
    ),
    "tokens": (
        "tokens n_tokens num_tokens total_tokens train_tokens training_tokens tokens_seen tokens_billions:1e9* "
        "tokens_b:1e9*"
    ),
    "flops": (
        "training_flop training_flops train_flops total_flops flops flop compute total_gflops:1e9* gflops:1e9* "
        "training_gflops:1e9*"
    ),
    "batch_size": "batch_size train_batch_size global_batch_size batch_size_seqs batch_size_sequences batch bs",
    "seq_len": "seq_len sequence_length seq_length context_length max_seq_len ctx_len n_ctx ctx block_size",
    "lr": "lr learning_rate peak_lr max_lr peak_learning_rate log2_lr:2** log10_lr:10**",
    "steps": "steps num_train_steps total_steps train_steps n_steps num_steps max_steps training_steps ti",
    "val_loss": (
        "val_loss eval_loss validation_loss valid_loss test_loss eval_paloma_macro_loss macro_loss final_val_loss "
        "final_loss loss_final smooth_loss loss"
    ),
    "width": "width d_model hidden_dim hidden_size n_embd",
    "depth": "depth num_layers n_layers n_layer num_hidden_layers layers",
    "beta2": "beta2 beta_2 adam_beta2 b2",
    "weight_decay": "weight_decay wd",
    "warmup": "warmup warmup_ratio warmup_fraction warmup_frac",
    "schedule": "schedule lr_schedule lr_scheduler lr_scheduler_type",
    "data": "data dataset data_set dataset_name",
    "group": "group series experiment source config",
    "optimizer": "optimizer optim optimizer_name optimizer_type",
    "seed": "seed",
}
RANKS = {
    target: {name.partition(":")[0]: (rank, name.partition(":")[2]) for rank, name in enumerate(names.split())}
    for target, names in NAMES.items()
}
LONGEST = 200  # characters of a column that is guessed at
TRAINING = re.compile(r"(^|_)train(ing)?_(smooth_)?loss$")  # of a training loss, whose tail is a loss, too


@dataclass(frozen=True)
class Name:
    """A column that may be a target, by its name: the arithmetic that makes it one, and columns that may be it, too."""

    column: str
    before: str
    others: tuple[str, ...] = ()

    @property
    def expression(self) -> str:
        """As `--map` has it."""
        return f"{self.before}{quoted(self.column)}"


def known_by(columns: Iterable[str]) -> dict[str, Name]:
    """Targets with the column whose name is best known for each; a column is that of one target."""
    found: dict[str, list[tuple[int, int, str, str]]] = {}
    for place, column in enumerate(columns):
        if "`" not in column and column.isprintable() and len(column) <= LONGEST:
            for target, rank, before in _ranks(column):
                found.setdefault(target, []).append((rank, place, column, before))
    best = {target: sorted(candidates) for target, candidates in found.items()}
    return {
        target: Name(candidates[0][2], candidates[0][3], tuple(column for *_, column, _ in candidates[1:]))
        for target, candidates in best.items()
    }


def _ranks(column: str) -> Iterable[tuple[str, int, str]]:
    """The targets that a column may be: how well its name is known, after all whole names those with a path before."""
    if column in LETTERS:
        yield LETTERS[column], 0, ""
        return
    whole = _plain(column)
    tail = _plain(re.split(r"[./]", column)[-1])
    for target, ranks in RANKS.items():
        if whole in ranks:
            yield target, *ranks[whole]
        elif tail in ranks and not TRAINING.search(whole):
            rank, before = ranks[tail]
            yield target, rank + len(ranks), before


def _plain(name: str) -> str:
    return re.sub(r"[\W_]+", "_", name.casefold()).strip("_")
