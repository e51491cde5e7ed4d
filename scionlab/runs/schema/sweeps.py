"""Tables of what is asked for: sweeps, searches, and imports of runs that were trained elsewhere."""

import pyarrow as pa

from scionlab.runs.schema.table import INT, OLDER, REAL, STR, TIME, VERSION, Column, Table

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

NO_SETTING = "not given, as where only sizes, tokens and losses are"
NOT_GIVEN = "not given, or the row is older than this column"
IMPORTS = Table(
    "imports",
    "name",
    "one row per run that was trained elsewhere; one file per import",
    (
        Column("name", STR, "name of the import; it is the experiment of reports on it"),
        VERSION,
        Column("trial_id", STR, "hash of the name and of what was imported of the run"),
        Column("source", STR, "name of the file it came from"),
        Column(
            "row",
            INT,
            "its line in a CSV file, where the header is 1, or of JSON, or its row in a Parquet file, from 1",
        ),
        Column("optimizer", STR, "name of the method"),
        Column("group", STR, "name of the source or series that it is fitted with, apart from others", NOT_GIVEN),
        Column("run", STR, "name of the run", NOT_GIVEN),
        Column("status", STR, "`ok` or `diverged`"),
        Column("n_params", REAL, "N, number of parameters; not always whole, as read off a figure", "not given"),
        Column("width", INT, "width of the residual stream", "not given"),
        Column("depth", INT, "number of blocks, L", NOT_GIVEN),
        Column("tokens", REAL, "T, tokens the run was trained on"),
        Column("flops", REAL, "C, floating-point operations of the training as given, counted as its writer does",
               "not given: 6 × n_params × tokens is what is taken for it, or the row is older than this column"),
        Column("batch_size", REAL, "B, sequences a step", NO_SETTING),
        Column("seq_len", REAL, "S, tokens a sequence; 1 if `batch_size` is in tokens", NO_SETTING),
        Column("steps", REAL, "K, optimizer steps; tokens ÷ (batch_size × seq_len) if not given", NO_SETTING),
        Column("checkpoint_step", REAL, "step that the loss is of, where it is not the last", NOT_GIVEN),
        Column("lr", REAL, "γ, peak learning rate", NO_SETTING),
        Column("momentum", REAL, "α, weight of the new gradient in the average", "not given"),
        Column("beta2", REAL, "β₂, weight of the old average of squared gradients", NOT_GIVEN),
        Column("weight_decay", REAL, "λ, as the writer counts it", NOT_GIVEN),
        Column("warmup", REAL, "share of the run over which the rate rises", NOT_GIVEN),
        Column("schedule", STR, "shape of the learning rate over the run", NOT_GIVEN),
        Column("data", STR, "name of the data set", NOT_GIVEN),
        Column("seed", INT, "tells repeated runs apart; 0 if not given"),
        Column("val_loss", REAL, "final validation loss in the file's unit, best nats per token", "diverged"),
    ),
)  # fmt: skip

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
