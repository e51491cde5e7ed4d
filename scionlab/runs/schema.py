"""The tables of the run store: their columns, types, units and meaning. docs/data-dictionary.md is this file.

Raise `SCHEMA_VERSION` when a column changes its meaning or goes away; adding a column does not.
"""

from dataclasses import dataclass

import pyarrow as pa

SCHEMA_VERSION = 1

STR, INT, REAL, BOOL = pa.string(), pa.int64(), pa.float64(), pa.bool_()
TIME = pa.timestamp("us", tz="UTC")


@dataclass(frozen=True)
class Column:
    """A column; `null` says when it is empty, or is "" when it never is."""

    name: str
    type: pa.DataType
    meaning: str
    null: str = ""


@dataclass(frozen=True)
class Table:
    """A table of the store: a folder of Parquet files named by the value of `key`."""

    name: str
    key: str
    about: str
    columns: tuple[Column, ...]

    @property
    def schema(self) -> pa.Schema:
        """The Arrow schema every file of the table has."""
        fields = [pa.field(c.name, c.type, nullable=bool(c.null)) for c in self.columns]
        return pa.schema(fields, metadata={"scionlab_schema_version": str(SCHEMA_VERSION)})


VERSION = Column("schema_version", pa.int16(), "version of this dictionary the row was written with")
TRIAL = Column("trial_id", STR, "hash of everything that changes the trial's numbers")
NO_RESULT = "the trial failed"
NOT_SAID = "the trial failed, or the row is older than this column"
NO_PROBE = "the row is not a probe's"

RUNS = Table(
    "runs",
    "trial_id",
    "one row per trial",
    (
        TRIAL,
        VERSION,
        Column("experiment", STR, "experiment that trained the trial first (others may share it)"),
        Column("preset", STR, "preset that trained the trial first"),
        Column("status", STR, "`ok`, `diverged` or `error`; only `error` is tried again"),
        Column("error", STR, "traceback of a failed trial", "the trial did not fail"),
        Column("optimizer", STR, "name of the method"),
        Column("model", STR, "name of the architecture"),
        Column("width", INT, "width of the residual stream, or of the layers"),
        Column("depth", INT, "number of blocks, or of hidden matrices, L"),
        Column("head_dim", INT, "width of an attention head"),
        Column("tied", BOOL, "embedding and head share their weight"),
        Column("residual", STR, "factor on residual branches: `1`, `1/sqrt(2L)` or `1/L`"),
        Column("n_params", INT, "all parameters; a shared matrix counts once", NO_RESULT),
        Column("n_params_hidden", INT, "parameters without embedding and head", NO_RESULT),
        Column("vocab_size", INT, "number of token values or classes that are told apart", NO_RESULT),
        Column("batch_size", INT, "B, sequences a step; like seq_len and lr, that of the first stage"),
        Column("seq_len", INT, "S, tokens a training sequence, of the first stage"),
        Column("tokens", INT, "T, exactly steps × batch_size × seq_len, summed over the stages"),
        Column("tokens_budget", INT, "budget asked for; `tokens` is the nearest whole number of steps"),
        Column("steps", INT, "K, optimizer steps planned, summed over the stages"),
        Column("steps_done", INT, "optimizer steps taken (fewer than `steps` after divergence)", NO_RESULT),
        Column("epochs", REAL, "passes over the training data, fractions included, summed over the stages", NO_RESULT),
        Column("lr", REAL, "γ, peak learning rate, of the first stage"),
        Column("momentum", REAL, "α, weight of the new gradient in the average"),
        Column(
            "momentum_schedule",
            STR,
            "`constant`, or `vanishing`: α = 1/√k at step k",
            "older than this column: `constant`",
        ),
        Column("schedule", STR, "shape of the learning rate over the run"),
        Column("sampler", STR, "who chose the examples", "older than this column: `shuffled`"),
        Column("warmup", REAL, "share of the run over which the rate rises", "older than this column: 0"),
        Column("clip_norm", REAL, "norm that gradients are scaled down to; 0: never", "older than this column: 0"),
        Column("clipped_share", REAL, "share of the steps at which they were", "the trial does not clip, or failed"),
        Column(
            "stages",
            STR,
            "the later stages as JSON, each with its from_tokens, batch_size, seq_len and lr",
            "the trial has one stage",
        ),
        Column("seed", INT, "seed of initialization and data order"),
        Column("initial_loss", REAL, "training loss of the first batch, nats per token", NO_RESULT),
        Column("val_loss", REAL, "validation loss after the last step, nats per token", "diverged or failed"),
        Column(
            "val_loss_per_byte",
            REAL,
            "the same in nats per byte of text: val_loss × tokens ÷ bytes of the whole validation text",
            "not text, its bytes are not known, diverged or failed, or the row is older than this column",
        ),
        Column(
            "val_accuracy",
            REAL,
            "share of the validation images whose class is the most likely one after the last step",
            "not images, diverged or failed",
        ),
        Column("train_loss", REAL, "training loss over the last tenth of the curve, nats per token", NO_RESULT),
        Column(
            "wall_time_s",
            REAL,
            "seconds for building, training, probing and validating the trial; of seconds that several trials share, "
            "as in a stack or a stem, an equal part",
            NO_RESULT,
        ),
        Column(
            "tokens_per_s",
            REAL,
            "training tokens ÷ wall_time_s; tokens of a stem are divided among its trials as its seconds are",
            NO_RESULT,
        ),
        Column("compiled", BOOL, "gradients came from compiled graphs; the numbers differ by rounding", NOT_SAID),
        Column("compile_s", REAL, "seconds of wall_time_s spent on compiling or loading graphs", NOT_SAID),
        Column("compile_note", STR, "why gradients were not compiled", "they were, or were not to be"),
        Column(
            "stack",
            INT,
            "trials that were trained together as one model, this one included; 0 is alone. Each has an equal share of "
            "their seconds, and its numbers differ from those alone by rounding",
            NOT_SAID,
        ),
        Column(
            "micro_batch",
            INT,
            "examples of the parts that batches were read in; 0 is whole. The numbers differ by rounding",
            NOT_SAID,
        ),
        Column(
            "micro_batch_note",
            STR,
            "that CUDA ran out of memory and halved them, or why batches stayed whole",
            "nothing to say, the trial failed, or the row is older than this column",
        ),
        Column(
            "stem_steps",
            INT,
            "steps at its beginning that were trained once for several budgets; 0 is alone. The numbers are those of "
            "the trial alone",
            NOT_SAID,
        ),
        Column(
            "gradient_calls",
            INT,
            "gradients of batches that the method took; more than `steps_done` where a step takes several",
            "older than this column (one a step), or failed",
        ),
        Column(
            "flops",
            REAL,
            "forward and backward floating-point operations of the steps taken, without probes",
            NO_RESULT,
        ),
        Column("device", STR, "`cpu` or `cuda`"),
        Column("dtype", STR, "`float32`, or `bfloat16` for autocast"),
        Column("val_tokens", INT, "tokens the validation loss is averaged over"),
        Column("data", STR, "name of the data, such as `sotu`, `path:FILE`, `tokens:GLOB`, `digits` or `noise:KIND`"),
        Column("data_sha256", STR, "SHA-256 of the data; of a caller's function, of its code and the validation set"),
        Column(
            "model_sha256",
            STR,
            "SHA-256 of the code of a model of the caller's",
            "the model is built in, or the row is older than this column",
        ),
        Column(
            "optimizer_sha256",
            STR,
            "SHA-256 of the code of a recipe of the caller's",
            "the optimizer is built in, or the row is older than this column",
        ),
        Column("scionlab_version", STR, "version of this package"),
        Column("git_commit", STR, "commit of the source tree, `+dirty` if changed", "not a git checkout"),
        Column("torch_version", STR, "version of PyTorch"),
        Column("machine", STR, "operating system, processor architecture and device"),
        Column("started_at", TIME, "when the trial began, UTC"),
        Column("spec", STR, "the whole trial as JSON"),
    ),
)

CURVES = Table(
    "curves",
    "trial_id",
    "one row per logged step of a trial, at most 128 a trial; also a row per validation, and one per probe, "
    "batch size and sequence length (`scionlab/training/measure/probe.py` has the formulas)",
    (
        TRIAL,
        VERSION,
        Column("step", INT, "optimizer steps taken so far, from 1"),
        Column("tokens", INT, "training tokens seen so far"),
        Column("lr", REAL, "learning rate of this step"),
        Column(
            "train_loss",
            REAL,
            "mean training loss since the row before, nats per token (may be infinite)",
            "the row is a probe's or a validation's",
        ),
        Column("grad_norm", REAL, "mean norm of the gradients before clipping since the row before", "no clipping"),
        Column(
            "val_loss",
            REAL,
            "validation loss at this point, for trials with `validate_every`",
            "the row is not a validation's",
        ),
        Column("val_accuracy", REAL, "validation accuracy there", "the row is not a validation's, or not of images"),
        Column("probe_batch_size", INT, "b, windows that a gradient g_b of the probe averages", NO_PROBE),
        Column("probe_seq_len", INT, "tokens of the probe's windows", NO_PROBE),
        Column("probe_loss", REAL, "f, loss of all the probe's windows before the step, nats per token", NO_PROBE),
        Column("grad_dual", REAL, "‖∇f‖_*, dual of the network's norm, the same for every b", NO_PROBE),
        Column("grad_variance", REAL, "mean of ‖g_b − ∇f‖₂², unbiased", NO_PROBE),
        Column("norm_ratio", REAL, "κ, mean of ‖g_b − ∇f‖_* ÷ ‖g_b − ∇f‖₂", NO_PROBE),
        Column(
            "smoothness",
            REAL,
            "L, dual norm of the step's change of ∇f ÷ norm of its change of the weights",
            "the row is not a probe's with b = 1 and whole windows",
        ),
    ),
)

NO_BALLS = "the method has no norm balls"
LAYERS = Table(
    "layers",
    "trial_id",
    "for trials with `watch`: one row per measured step and parameter, and one for the model's output "
    "(`scionlab/training/measure/watch.py` has the formulas)",
    (
        TRIAL,
        VERSION,
        Column("step", INT, "optimizer steps taken so far, from 0"),
        Column("tokens", INT, "training tokens seen so far"),
        Column("layer", STR, "name of the parameter, or `logits` for the model's output"),
        Column("role", STR, "`input`, `hidden`, `output`, `gain`, `bias`, or `model` for the output"),
        Column("norm_name", STR, "geometry the parameter is measured in", "the row is the model's output"),
        Column("norm", REAL, "‖W‖ in that geometry", "the row is the model's output"),
        Column("radius", REAL, "ρ, radius of the parameter's ball, in units of that norm", NO_BALLS),
        Column("bound", REAL, "what ‖W‖ cannot exceed at this step by the method's theory",
               "the method has no norm balls, or steps that nothing bounds"),
        Column("rms_to_rms", REAL, "√(d_in/d_out) · largest singular value", "not a matrix"),
        Column("rms_to_max", REAL, "√d_in · largest Euclidean norm of a row", "not a matrix"),
        Column("output_rms", REAL, "‖h‖_RMS of what the parameter's module puts out on a fixed validation batch",
               "the module was not called, or an earlier row has its output"),
        Column("output_change_rms", REAL, "‖h − h⁰‖_RMS, its change since initialization",
               "the module was not called, or an earlier row has its output"),
        Column("grad_dual", REAL, "dual norm of the gradient of the loss on that batch",
               "the row is the model's output"),
    ),
)  # fmt: skip

SCORES = Table(
    "scores",
    "trial_id",
    "one row per validation, group and metric, in long form, where the data have groups: classes of images, or players",
    (
        TRIAL,
        VERSION,
        Column("step", INT, "optimizer steps taken so far"),
        Column("split", STR, "what is scored: `validation`"),
        Column("group", STR, "name of the class, or of the player"),
        Column("metric", STR, "`loss` (nats, of single examples on average), `accuracy`, or `examples`, how many"),
        Column("value", REAL, "its value (may be infinite)"),
    ),
)

OLDER = "older than this column"
SWEEPS = Table(
    "sweeps",
    "sweep_id",
    "one row per call of a sweep: what was asked for, and what it cost",
    (
        Column("sweep_id", STR, "start time and a random suffix"),
        VERSION,
        Column("experiment", STR, "name of the experiment"),
        Column("preset", STR, "name of the preset"),
        Column("title", STR, "title of the experiment"),
        Column("question", STR, "question the experiment asks"),
        Column("study", STR, "fit and page the experiment is for", "older than this column: `lr-transfer`"),
        Column("settings", STR, "what the study is told, as JSON", "older than this column"),
        Column("status", STR, "`running`, `done` or `interrupted`"),
        Column("executor", STR, "`ray` or `inline`"),
        Column("workers", INT, "trials that ran at the same time"),
        Column("n_trials", INT, "trials in the grid"),
        Column("n_trained", INT, "trials trained by this call (the others were in the store)"),
        Column("trial_seconds", REAL, "sum of wall_time_s over the trials trained by this call"),
        Column("wall_time_s", REAL, "seconds from start to end of this call"),
        Column("machine", STR, "operating system, processor architecture, device and number of cores"),
        Column("scionlab_version", STR, "version of this package"),
        Column("git_commit", STR, "commit of the source tree, `+dirty` if changed", "not a git checkout"),
        Column("started_at", TIME, "when the sweep began, UTC"),
        Column("updated_at", TIME, "when this row was written; every 30 s while the sweep runs, UTC", OLDER),
        Column("host", STR, "name of the machine that the sweep's driver runs on", OLDER),
        Column("pid", INT, "process id of the driver there", OLDER),
        Column("trial_ids", pa.list_(STR), "the grid: ids of all its trials, also those not yet trained"),
        Column("trial_costs", pa.list_(REAL), "expected work of each, in about FLOPs", OLDER),
    ),
)

NO_SETTING = "only sizes, tokens and losses are given"
IMPORTS = Table(
    "imports",
    "name",
    "one row per run that was trained elsewhere; one file per import",
    (
        Column("name", STR, "name of the import; it is the experiment of reports on it"),
        VERSION,
        Column("trial_id", STR, "hash of the name and of what was imported of the run"),
        Column("source", STR, "name of the file it came from"),
        Column("row", INT, "its line in a CSV file, where the header is 1, or its row in a Parquet file, from 1"),
        Column("optimizer", STR, "name of the method"),
        Column("status", STR, "`ok` or `diverged`"),
        Column("n_params", INT, "N, number of parameters", "not given"),
        Column("width", INT, "width of the residual stream", "not given"),
        Column("tokens", REAL, "T, tokens the run was trained on"),
        Column("batch_size", REAL, "B, sequences a step", NO_SETTING),
        Column("seq_len", REAL, "S, tokens a sequence; 1 if `batch_size` is in tokens", NO_SETTING),
        Column("steps", REAL, "K, optimizer steps; tokens ÷ (batch_size × seq_len) if not given", NO_SETTING),
        Column("lr", REAL, "γ, peak learning rate", NO_SETTING),
        Column("momentum", REAL, "α, weight of the new gradient in the average", "not given"),
        Column("seed", INT, "tells repeated runs apart; 0 if not given"),
        Column("val_loss", REAL, "final validation loss in the file's unit, best nats per token", "diverged"),
    ),
)

NO_ROW = "the trial did not go to its end"
TUNINGS = Table(
    "tunings",
    "study",
    "one row per trial of a search; one file per search, replaced as it goes on",
    (
        Column("study", STR, "name of the search, as in Optuna's file, with a hash of what decides what it finds"),
        VERSION,
        Column("experiment", STR, "name of the experiment"),
        Column("preset", STR, "name of the preset"),
        Column("method", STR, "the experiment's name for what is tuned"),
        Column("optimizer", STR, "name of the method's optimizer"),
        Column("place", STR, "where it is tuned: `proxy`, or the target's name"),
        Column("seed", INT, "seed of the search, and of initialization and data order of all its trials"),
        Column("number", INT, "Optuna's number of the trial in its study"),
        Column("state", STR, "`complete`, `pruned` (ended early, see `pruning`), `diverged` or `failed`"),
        Column("error", STR, "traceback of a failed trial", "the trial did not fail, or the search was killed"),
        Column(
            "params", STR, "what was sampled, as JSON: the learning rate, the momentum, and the optimizer's options"
        ),
        Column("val_loss", REAL, "validation loss after the last step, nats per token", NO_ROW),
        Column("trial_id", STR, "the trial's row in `runs`", "the trial was pruned, or never began"),
        Column("steps_done", INT, "optimizer steps taken", "the search was killed"),
        Column("flops", REAL, "forward and backward floating-point operations of the steps taken", "likewise"),
        Column("wall_time_s", REAL, "seconds for building, training and validating the trial", "likewise"),
        Column("started_at", TIME, "when the trial began, UTC", "likewise"),
    ),
)

TABLES = (RUNS, CURVES, LAYERS, SCORES, SWEEPS, TUNINGS, IMPORTS)


def data_dictionary() -> str:
    """The tables in Markdown, as README shows them."""
    parts = []
    for table in TABLES:
        lines = [f"**`{table.name}`**: {table.about}.", "", "| column | type | meaning |", "|---|---|---|"]
        for column in table.columns:
            empty = f"; null if {column.null}" if column.null else ""
            lines.append(f"| `{column.name}` | {column.type} | {column.meaning}{empty} |")
        parts.append("\n".join(lines))
    return "\n\n".join(parts)
