"""Every table. A change here needs a revision in `migrations/versions`; a test compares them.

Jobs, models and data sets are keyed by the id in their name, studies and trials by their
numbers. Columns called `*_name`, and others said to, hold whole resource names. Enums are
stored by value. Times are `Timestamp`s (aware UTC datetimes in Python, microseconds below),
durations seconds as floats unless their name says otherwise; structures are `JsonText`.
"""

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    Float,
    ForeignKey,
    ForeignKeyConstraint,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    String,
    Table,
    Text,
)

from rafiki.server.store.types import JsonText, Timestamp

metadata = MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "fk": "fk_%(table_name)s_%(column_0_N_name)s",
        "pk": "pk_%(table_name)s",
    }
)

# Blobs that a resource names, from the first time one did. The bytes are in files.
blobs = Table(
    "blobs",
    metadata,
    Column("sha256", String(64), primary_key=True),
    Column("size_bytes", BigInteger, nullable=False),
    Column("create_time", Timestamp, nullable=False),
)

models = Table(
    "models",
    metadata,
    Column("id", String(8), primary_key=True),
    Column("display_name", Text, nullable=False),
    Column("task", String(63), nullable=False),
    Column("model_class", Text, nullable=False),
    Column("source_sha256", String(64), ForeignKey(blobs.c.sha256), nullable=False),
    Column("source_size_bytes", BigInteger, nullable=False),
    Column("dependencies", JsonText, nullable=False),
    Column("knob_config", JsonText, nullable=False),  # as rafiki.model.serial writes it
    Column("candidate_batches", Boolean, nullable=False),
    Column("owner", Text, nullable=False),
    Column("create_time", Timestamp, nullable=False),
    Index(None, "create_time", "id"),
)

datasets = Table(
    "datasets",
    metadata,
    Column("id", String(8), primary_key=True),
    Column("display_name", Text, nullable=False),
    Column("task", String(63), nullable=False),
    Column("sha256", String(64), ForeignKey(blobs.c.sha256), nullable=False),
    Column("size_bytes", BigInteger, nullable=False),
    Column("owner", Text, nullable=False),
    Column("create_time", Timestamp, nullable=False),
    Index(None, "create_time", "id"),
)

# Answers to calls that carried a request id. `resource` is a name.
request_ids = Table(
    "request_ids",
    metadata,
    Column("owner", Text, primary_key=True),
    Column("method", String(64), primary_key=True),
    Column("request_id", String(36), primary_key=True),
    Column("resource", Text, nullable=False),
    Column("request_hash", String(64), nullable=False),
    Column("create_time", Timestamp, nullable=False),
)

train_jobs = Table(
    "train_jobs",
    metadata,
    Column("id", String(8), primary_key=True),
    Column("app", String(63), nullable=False),
    Column("app_version", Integer, nullable=False),
    Column("task", String(63), nullable=False),
    Column("train_dataset", Text, nullable=False),  # a name, or "" for none; as the next two
    Column("validation_dataset", Text, nullable=False),
    Column("test_dataset", Text, nullable=False),
    Column("train_args", JsonText, nullable=False),
    Column("budget_time_us", BigInteger),
    Column("gpu_count", Integer, nullable=False),
    Column("model_trial_count", Integer, nullable=False),
    Column("goal_score", Float),
    Column("direction", String(16), nullable=False),
    Column("seed", BigInteger, nullable=False),
    Column("owner", Text, nullable=False),
    Column("state", String(16), nullable=False),
    Column("create_time", Timestamp, nullable=False),
    Column("end_time", Timestamp),
    Column("first_assign_time", Timestamp),  # when the budget's clock started
    Column("best_trial", Text, nullable=False, default=""),  # a name
    Column("pause_time", Timestamp),  # since when it is paused, if it is
    # Microseconds of ended pauses, as far as the budget's clock had started.
    Column("paused_us", BigInteger, nullable=False, server_default="0"),
    Index(None, "create_time", "id"),
    Index(None, "owner", "app", "app_version", unique=True),
)

studies = Table(
    "studies",
    metadata,
    Column("job", String(8), ForeignKey(train_jobs.c.id), primary_key=True),
    Column("number", Integer, primary_key=True, autoincrement=False),
    Column("spec", JsonText, nullable=False),
    Column("knob_config", JsonText, nullable=False),
    Column("settings", JsonText, nullable=False),  # AdvisorSettings, resolved
    Column("model", String(8), ForeignKey(models.c.id)),  # None for external studies
    Column("batch_size", Integer, nullable=False),
    Column("has_probe", Boolean, nullable=False),
    Column("state", String(16), nullable=False),
    Column("phase", String(16)),
    Column("plan", JsonText),
    Column("completed_trials", Integer, nullable=False, default=0),
    Column("errored_trials", Integer, nullable=False, default=0),
    Column("cancelled_trials", Integer, nullable=False, default=0),
    Column("best_trial", Text, nullable=False, default=""),  # a name
    Column("control_arm", JsonText),
    Column("end_reason", String(24)),
    Column("end_message", Text, nullable=False, default=""),
    Column("end_time", Timestamp),
    Index(None, "state"),
)

# `attempt` counts attempts begun: it grows when the trial is assigned, so a PENDING row holds
# the number of the attempt that was lost. `lease_token` is that of attempt `attempt` until the
# trial is assigned again, also after the lease has expired or the trial has ended: it is the
# key by which outcomes and checkpoints are recognised. A checkpoint is accepted while the
# state is RUNNING or PENDING.
trials = Table(
    "trials",
    metadata,
    Column("job", String(8), primary_key=True),
    Column("study", Integer, primary_key=True, autoincrement=False),
    Column("number", Integer, primary_key=True, autoincrement=False),
    Column("phase", String(16), nullable=False),
    Column("knobs", JsonText, nullable=False),
    Column("candidates", JsonText, nullable=False),  # a list of {knob: [choice, ...]}
    Column("candidate_scores", JsonText),  # a list of numbers, null where unscored
    Column("policies", JsonText, nullable=False),
    Column("seed", BigInteger, nullable=False),
    Column("start_checkpoint", Text, nullable=False),  # a name, or "" for fresh parameters
    Column("round", Integer, nullable=False),
    Column("shard_index", Integer),
    Column("shard_count", Integer),
    Column("data_seed", BigInteger, nullable=False),
    Column("control", Boolean, nullable=False),
    Column("evaluate", Boolean, nullable=False),
    Column("save", Boolean, nullable=False),
    Column("basis", JsonText, nullable=False),
    Column("state", String(16), nullable=False),
    Column("attempt", Integer, nullable=False),
    Column("worker", Text, nullable=False),
    Column("lease_token", Text),
    Column("lease_expire_time", Timestamp),
    Column("score", Float),
    Column("test_score", Float),
    Column("final_checkpoint", Text, nullable=False, default=""),  # a name
    Column("stop_reason", String(16)),
    Column("error_kind", String(24)),
    Column("error_message", Text),
    Column("error_traceback", Text),
    Column("costs", JsonText),
    Column("queue_s", Float),
    Column("setup_s", Float),
    Column("compile_s", Float),
    Column("train_s", Float),
    Column("evaluate_s", Float),
    Column("create_time", Timestamp, nullable=False),
    Column("start_time", Timestamp),
    Column("end_time", Timestamp),
    Column("pending_since", Timestamp),
    Column("handed_back", Integer, nullable=False, server_default="0"),  # attempts
    Column("progress_fraction", Float),
    Column("progress_remaining_s", Float),
    ForeignKeyConstraint(["job", "study"], [studies.c.job, studies.c.number]),
    Index(None, "lease_token", unique=True),
    Index(None, "state"),
    Index(None, "job", "study", "phase", "score"),
)

# What attempts of trials saved. `trial` is a number. `attempt` is 0 for what the server merged.
# A collected one has no tensors any more.
checkpoints = Table(
    "checkpoints",
    metadata,
    Column("job", String(8), primary_key=True),
    Column("study", Integer, primary_key=True, autoincrement=False),
    Column("id", String(24), primary_key=True),
    Column("trial", Integer, nullable=False),
    Column("attempt", Integer, nullable=False),
    Column("parents", JsonText, nullable=False),  # names
    Column("shard_index", Integer),
    Column("shard_count", Integer),
    Column("size_bytes", BigInteger, nullable=False),
    Column("create_time", Timestamp, nullable=False),
    Column("collect_time", Timestamp),  # since when it is collected, if it is
    ForeignKeyConstraint(
        ["job", "study", "trial"], [trials.c.job, trials.c.study, trials.c.number]
    ),
    Index(None, "job", "study", "create_time", "trial", "attempt"),
)

checkpoint_tensors = Table(
    "checkpoint_tensors",
    metadata,
    Column("job", String(8), primary_key=True),
    Column("study", Integer, primary_key=True, autoincrement=False),
    Column("checkpoint", String(24), primary_key=True),
    Column("path", Text, primary_key=True),
    Column("dtype", String(24), nullable=False),  # as rafiki.resources.Tensor.dtype
    Column("shape", JsonText, nullable=False),
    Column("sha256", String(64), ForeignKey(blobs.c.sha256), nullable=False),
    Column("size_bytes", BigInteger, nullable=False),
    Column("updates", BigInteger, nullable=False),
    ForeignKeyConstraint(
        ["job", "study", "checkpoint"],
        [checkpoints.c.job, checkpoints.c.study, checkpoints.c.id],
    ),
    Index(None, "sha256"),
    sqlite_with_rowid=False,
)

# What advisors are folded over. `PROPOSED` and `ENDED` of trial `trial`, in this order;
# between them perhaps `REPORTED`, with `step` and `score`; and `MERGED` of the weights of
# `round` into `checkpoint`, where `trial` is the last of its shards to end. A merge that failed
# has `message` in place of `checkpoint`.
study_events = Table(
    "study_events",
    metadata,
    Column("job", String(8), primary_key=True),
    Column("study", Integer, primary_key=True, autoincrement=False),
    Column("sequence", Integer, primary_key=True, autoincrement=False),
    Column("kind", String(16), nullable=False),
    Column("trial", Integer, nullable=False),
    Column("at_s", Float, nullable=False),  # seconds of the time budget
    Column("time", Timestamp, nullable=False),
    Column("step", BigInteger),
    Column("score", Float),
    Column("round", Integer),
    Column("checkpoint", Text),  # a name
    Column("merge_s", Float),
    Column("message", Text),
    ForeignKeyConstraint(
        ["job", "study", "trial"], [trials.c.job, trials.c.study, trials.c.number]
    ),
    sqlite_with_rowid=False,
)

# The state of an advisor after the event `after_sequence`: one per study, the latest.
snapshots = Table(
    "snapshots",
    metadata,
    Column("job", String(8), primary_key=True),
    Column("study", Integer, primary_key=True, autoincrement=False),
    Column("after_sequence", Integer, nullable=False),
    Column("state", JsonText, nullable=False),  # AdvisorState.values
    Column("arrays", LargeBinary, nullable=False),  # npz, without pickles
    Column("time", Timestamp, nullable=False),
    ForeignKeyConstraint(["job", "study"], [studies.c.job, studies.c.number]),
)

rounds = Table(
    "rounds",
    metadata,
    Column("job", String(8), primary_key=True),
    Column("study", Integer, primary_key=True, autoincrement=False),
    Column("round", Integer, primary_key=True, autoincrement=False),
    Column("checkpoint", Text, nullable=False),  # a name
    Column("mean_reward", Float, nullable=False),
    Column("baseline", Float, nullable=False),
    Column("entropy", Float, nullable=False),
    Column("best", JsonText),  # {"archs": ..., "score": ...}
    Column("control", JsonText),  # ScoreStats
    Column("train_s", Float, nullable=False),
    Column("merge_s", Float, nullable=False),
    Column("evaluate_s", Float, nullable=False),
    ForeignKeyConstraint(["job", "study"], [studies.c.job, studies.c.number]),
)

# In order of attempt and sequence, the worker's count over logs and metrics together.
trial_logs = Table(
    "trial_logs",
    metadata,
    Column("job", String(8), primary_key=True),
    Column("study", Integer, primary_key=True, autoincrement=False),
    Column("trial", Integer, primary_key=True, autoincrement=False),
    Column("attempt", Integer, primary_key=True, autoincrement=False),
    Column("sequence", BigInteger, primary_key=True, autoincrement=False),
    Column("time", Timestamp, nullable=False),
    Column("level", String(16), nullable=False),
    Column("message", Text, nullable=False),
    ForeignKeyConstraint(
        ["job", "study", "trial"], [trials.c.job, trials.c.study, trials.c.number]
    ),
    sqlite_with_rowid=False,
)

trial_metrics = Table(
    "trial_metrics",
    metadata,
    Column("job", String(8), primary_key=True),
    Column("study", Integer, primary_key=True, autoincrement=False),
    Column("trial", Integer, primary_key=True, autoincrement=False),
    Column("attempt", Integer, primary_key=True, autoincrement=False),
    Column("sequence", BigInteger, primary_key=True, autoincrement=False),
    Column("time", Timestamp, nullable=False),
    Column("step", BigInteger, nullable=False),
    Column("metrics", JsonText, nullable=False),  # TrialMetrics.values
    Column("score", Float),
    ForeignKeyConstraint(
        ["job", "study", "trial"], [trials.c.job, trials.c.study, trials.c.number]
    ),
    sqlite_with_rowid=False,
)

trial_plots = Table(
    "trial_plots",
    metadata,
    Column("job", String(8), primary_key=True),
    Column("study", Integer, primary_key=True, autoincrement=False),
    Column("trial", Integer, primary_key=True, autoincrement=False),
    Column("title", Text, primary_key=True),
    Column("metrics", JsonText, nullable=False),
    Column("x_axis", Text, nullable=False),
    ForeignKeyConstraint(
        ["job", "study", "trial"], [trials.c.job, trials.c.study, trials.c.number]
    ),
    sqlite_with_rowid=False,
)

# What watchers are told, in order of `id`, which never comes twice. `number` is that of a
# trial or a round; it and `study` are None where the kind has none.
changes = Table(
    "changes",
    metadata,
    Column("id", BigInteger().with_variant(Integer, "sqlite"), primary_key=True),
    Column("job", String(8), ForeignKey(train_jobs.c.id), nullable=False),
    Column("kind", String(8), nullable=False),  # JOB, STUDY, TRIAL or ROUND
    Column("study", Integer),
    Column("number", Integer),
    Column("time", Timestamp, nullable=False),
    Index(None, "job", "id"),
    sqlite_autoincrement=True,
)
