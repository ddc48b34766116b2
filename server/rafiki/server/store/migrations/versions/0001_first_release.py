"""All tables of the first release."""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None


def upgrade() -> None:
    """Creates every table."""
    op.create_table(
        "blobs",
        sa.Column("sha256", sa.String(length=64), nullable=False),
        sa.Column("size_bytes", sa.BigInteger(), nullable=False),
        sa.Column("create_time", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("sha256", name=op.f("pk_blobs")),
    )
    op.create_table(
        "request_ids",
        sa.Column("owner", sa.Text(), nullable=False),
        sa.Column("method", sa.String(length=64), nullable=False),
        sa.Column("request_id", sa.String(length=36), nullable=False),
        sa.Column("resource", sa.Text(), nullable=False),
        sa.Column("request_hash", sa.String(length=64), nullable=False),
        sa.Column("create_time", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("owner", "method", "request_id", name=op.f("pk_request_ids")),
    )
    op.create_table(
        "train_jobs",
        sa.Column("id", sa.String(length=8), nullable=False),
        sa.Column("app", sa.String(length=63), nullable=False),
        sa.Column("app_version", sa.Integer(), nullable=False),
        sa.Column("task", sa.String(length=63), nullable=False),
        sa.Column("train_dataset", sa.Text(), nullable=False),
        sa.Column("validation_dataset", sa.Text(), nullable=False),
        sa.Column("test_dataset", sa.Text(), nullable=False),
        sa.Column("train_args", sa.Text(), nullable=False),
        sa.Column("budget_time_us", sa.BigInteger(), nullable=True),
        sa.Column("gpu_count", sa.Integer(), nullable=False),
        sa.Column("model_trial_count", sa.Integer(), nullable=False),
        sa.Column("goal_score", sa.Float(), nullable=True),
        sa.Column("direction", sa.String(length=16), nullable=False),
        sa.Column("seed", sa.BigInteger(), nullable=False),
        sa.Column("owner", sa.Text(), nullable=False),
        sa.Column("state", sa.String(length=16), nullable=False),
        sa.Column("create_time", sa.BigInteger(), nullable=False),
        sa.Column("end_time", sa.BigInteger(), nullable=True),
        sa.Column("first_assign_time", sa.BigInteger(), nullable=True),
        sa.Column("best_trial", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_train_jobs")),
    )
    op.create_index(
        op.f("ix_train_jobs_create_time_id"), "train_jobs", ["create_time", "id"], unique=False
    )
    op.create_index(
        op.f("ix_train_jobs_owner_app_app_version"),
        "train_jobs",
        ["owner", "app", "app_version"],
        unique=True,
    )
    op.create_table(
        "changes",
        sa.Column("id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("job", sa.String(length=8), nullable=False),
        sa.Column("kind", sa.String(length=8), nullable=False),
        sa.Column("study", sa.Integer(), nullable=True),
        sa.Column("number", sa.Integer(), nullable=True),
        sa.Column("time", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(["job"], ["train_jobs.id"], name=op.f("fk_changes_job")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_changes")),
        sqlite_autoincrement=True,
    )
    op.create_index(op.f("ix_changes_job_id"), "changes", ["job", "id"], unique=False)
    op.create_table(
        "datasets",
        sa.Column("id", sa.String(length=8), nullable=False),
        sa.Column("display_name", sa.Text(), nullable=False),
        sa.Column("task", sa.String(length=63), nullable=False),
        sa.Column("sha256", sa.String(length=64), nullable=False),
        sa.Column("size_bytes", sa.BigInteger(), nullable=False),
        sa.Column("owner", sa.Text(), nullable=False),
        sa.Column("create_time", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(["sha256"], ["blobs.sha256"], name=op.f("fk_datasets_sha256")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_datasets")),
    )
    op.create_index(
        op.f("ix_datasets_create_time_id"), "datasets", ["create_time", "id"], unique=False
    )
    op.create_table(
        "models",
        sa.Column("id", sa.String(length=8), nullable=False),
        sa.Column("display_name", sa.Text(), nullable=False),
        sa.Column("task", sa.String(length=63), nullable=False),
        sa.Column("model_class", sa.Text(), nullable=False),
        sa.Column("source_sha256", sa.String(length=64), nullable=False),
        sa.Column("source_size_bytes", sa.BigInteger(), nullable=False),
        sa.Column("dependencies", sa.Text(), nullable=False),
        sa.Column("knob_config", sa.Text(), nullable=False),
        sa.Column("candidate_batches", sa.Boolean(), nullable=False),
        sa.Column("owner", sa.Text(), nullable=False),
        sa.Column("create_time", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(
            ["source_sha256"], ["blobs.sha256"], name=op.f("fk_models_source_sha256")
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_models")),
    )
    op.create_index(op.f("ix_models_create_time_id"), "models", ["create_time", "id"], unique=False)
    op.create_table(
        "studies",
        sa.Column("job", sa.String(length=8), nullable=False),
        sa.Column("number", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("spec", sa.Text(), nullable=False),
        sa.Column("knob_config", sa.Text(), nullable=False),
        sa.Column("settings", sa.Text(), nullable=False),
        sa.Column("model", sa.String(length=8), nullable=True),
        sa.Column("batch_size", sa.Integer(), nullable=False),
        sa.Column("has_probe", sa.Boolean(), nullable=False),
        sa.Column("state", sa.String(length=16), nullable=False),
        sa.Column("phase", sa.String(length=16), nullable=True),
        sa.Column("plan", sa.Text(), nullable=True),
        sa.Column("completed_trials", sa.Integer(), nullable=False),
        sa.Column("errored_trials", sa.Integer(), nullable=False),
        sa.Column("cancelled_trials", sa.Integer(), nullable=False),
        sa.Column("best_trial", sa.Text(), nullable=False),
        sa.Column("control_arm", sa.Text(), nullable=True),
        sa.Column("end_reason", sa.String(length=24), nullable=True),
        sa.Column("end_message", sa.Text(), nullable=False),
        sa.Column("end_time", sa.BigInteger(), nullable=True),
        sa.ForeignKeyConstraint(["job"], ["train_jobs.id"], name=op.f("fk_studies_job")),
        sa.ForeignKeyConstraint(["model"], ["models.id"], name=op.f("fk_studies_model")),
        sa.PrimaryKeyConstraint("job", "number", name=op.f("pk_studies")),
    )
    op.create_index(op.f("ix_studies_state"), "studies", ["state"], unique=False)
    op.create_table(
        "rounds",
        sa.Column("job", sa.String(length=8), nullable=False),
        sa.Column("study", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("round", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("checkpoint", sa.Text(), nullable=False),
        sa.Column("mean_reward", sa.Float(), nullable=False),
        sa.Column("baseline", sa.Float(), nullable=False),
        sa.Column("entropy", sa.Float(), nullable=False),
        sa.Column("best", sa.Text(), nullable=True),
        sa.Column("control", sa.Text(), nullable=True),
        sa.Column("train_s", sa.Float(), nullable=False),
        sa.Column("merge_s", sa.Float(), nullable=False),
        sa.Column("evaluate_s", sa.Float(), nullable=False),
        sa.ForeignKeyConstraint(
            ["job", "study"], ["studies.job", "studies.number"], name=op.f("fk_rounds_job_study")
        ),
        sa.PrimaryKeyConstraint("job", "study", "round", name=op.f("pk_rounds")),
    )
    op.create_table(
        "snapshots",
        sa.Column("job", sa.String(length=8), nullable=False),
        sa.Column("study", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("after_sequence", sa.Integer(), nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("arrays", sa.LargeBinary(), nullable=False),
        sa.Column("time", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(
            ["job", "study"], ["studies.job", "studies.number"], name=op.f("fk_snapshots_job_study")
        ),
        sa.PrimaryKeyConstraint("job", "study", name=op.f("pk_snapshots")),
    )
    op.create_table(
        "trials",
        sa.Column("job", sa.String(length=8), nullable=False),
        sa.Column("study", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("number", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("phase", sa.String(length=16), nullable=False),
        sa.Column("knobs", sa.Text(), nullable=False),
        sa.Column("candidates", sa.Text(), nullable=False),
        sa.Column("candidate_scores", sa.Text(), nullable=True),
        sa.Column("policies", sa.Text(), nullable=False),
        sa.Column("seed", sa.BigInteger(), nullable=False),
        sa.Column("start_checkpoint", sa.Text(), nullable=False),
        sa.Column("round", sa.Integer(), nullable=False),
        sa.Column("shard_index", sa.Integer(), nullable=True),
        sa.Column("shard_count", sa.Integer(), nullable=True),
        sa.Column("data_seed", sa.BigInteger(), nullable=False),
        sa.Column("control", sa.Boolean(), nullable=False),
        sa.Column("evaluate", sa.Boolean(), nullable=False),
        sa.Column("save", sa.Boolean(), nullable=False),
        sa.Column("basis", sa.Text(), nullable=False),
        sa.Column("state", sa.String(length=16), nullable=False),
        sa.Column("attempt", sa.Integer(), nullable=False),
        sa.Column("worker", sa.Text(), nullable=False),
        sa.Column("lease_token", sa.Text(), nullable=True),
        sa.Column("lease_expire_time", sa.BigInteger(), nullable=True),
        sa.Column("score", sa.Float(), nullable=True),
        sa.Column("test_score", sa.Float(), nullable=True),
        sa.Column("final_checkpoint", sa.Text(), nullable=False),
        sa.Column("stop_reason", sa.String(length=16), nullable=True),
        sa.Column("error_kind", sa.String(length=24), nullable=True),
        sa.Column("error_message", sa.Text(), nullable=True),
        sa.Column("error_traceback", sa.Text(), nullable=True),
        sa.Column("costs", sa.Text(), nullable=True),
        sa.Column("queue_s", sa.Float(), nullable=True),
        sa.Column("setup_s", sa.Float(), nullable=True),
        sa.Column("compile_s", sa.Float(), nullable=True),
        sa.Column("train_s", sa.Float(), nullable=True),
        sa.Column("evaluate_s", sa.Float(), nullable=True),
        sa.Column("create_time", sa.BigInteger(), nullable=False),
        sa.Column("start_time", sa.BigInteger(), nullable=True),
        sa.Column("end_time", sa.BigInteger(), nullable=True),
        sa.Column("pending_since", sa.BigInteger(), nullable=True),
        sa.Column("progress_fraction", sa.Float(), nullable=True),
        sa.Column("progress_remaining_s", sa.Float(), nullable=True),
        sa.ForeignKeyConstraint(
            ["job", "study"], ["studies.job", "studies.number"], name=op.f("fk_trials_job_study")
        ),
        sa.PrimaryKeyConstraint("job", "study", "number", name=op.f("pk_trials")),
    )
    op.create_index(
        op.f("ix_trials_job_study_phase_score"),
        "trials",
        ["job", "study", "phase", "score"],
        unique=False,
    )
    op.create_index(op.f("ix_trials_lease_token"), "trials", ["lease_token"], unique=True)
    op.create_index(op.f("ix_trials_state"), "trials", ["state"], unique=False)
    op.create_table(
        "checkpoints",
        sa.Column("job", sa.String(length=8), nullable=False),
        sa.Column("study", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("id", sa.String(length=24), nullable=False),
        sa.Column("trial", sa.Integer(), nullable=False),
        sa.Column("attempt", sa.Integer(), nullable=False),
        sa.Column("parents", sa.Text(), nullable=False),
        sa.Column("shard_index", sa.Integer(), nullable=True),
        sa.Column("shard_count", sa.Integer(), nullable=True),
        sa.Column("size_bytes", sa.BigInteger(), nullable=False),
        sa.Column("create_time", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(
            ["job", "study", "trial"],
            ["trials.job", "trials.study", "trials.number"],
            name=op.f("fk_checkpoints_job_study_trial"),
        ),
        sa.PrimaryKeyConstraint("job", "study", "id", name=op.f("pk_checkpoints")),
    )
    op.create_index(
        op.f("ix_checkpoints_job_study_create_time_trial_attempt"),
        "checkpoints",
        ["job", "study", "create_time", "trial", "attempt"],
        unique=False,
    )
    op.create_table(
        "study_events",
        sa.Column("job", sa.String(length=8), nullable=False),
        sa.Column("study", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("sequence", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("kind", sa.String(length=16), nullable=False),
        sa.Column("trial", sa.Integer(), nullable=False),
        sa.Column("at_s", sa.Float(), nullable=False),
        sa.Column("time", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(
            ["job", "study", "trial"],
            ["trials.job", "trials.study", "trials.number"],
            name=op.f("fk_study_events_job_study_trial"),
        ),
        sa.PrimaryKeyConstraint("job", "study", "sequence", name=op.f("pk_study_events")),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "trial_logs",
        sa.Column("job", sa.String(length=8), nullable=False),
        sa.Column("study", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("trial", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("attempt", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("sequence", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("time", sa.BigInteger(), nullable=False),
        sa.Column("level", sa.String(length=16), nullable=False),
        sa.Column("message", sa.Text(), nullable=False),
        sa.ForeignKeyConstraint(
            ["job", "study", "trial"],
            ["trials.job", "trials.study", "trials.number"],
            name=op.f("fk_trial_logs_job_study_trial"),
        ),
        sa.PrimaryKeyConstraint(
            "job", "study", "trial", "attempt", "sequence", name=op.f("pk_trial_logs")
        ),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "trial_metrics",
        sa.Column("job", sa.String(length=8), nullable=False),
        sa.Column("study", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("trial", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("attempt", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("sequence", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("time", sa.BigInteger(), nullable=False),
        sa.Column("step", sa.BigInteger(), nullable=False),
        sa.Column("metrics", sa.Text(), nullable=False),
        sa.Column("score", sa.Float(), nullable=True),
        sa.ForeignKeyConstraint(
            ["job", "study", "trial"],
            ["trials.job", "trials.study", "trials.number"],
            name=op.f("fk_trial_metrics_job_study_trial"),
        ),
        sa.PrimaryKeyConstraint(
            "job", "study", "trial", "attempt", "sequence", name=op.f("pk_trial_metrics")
        ),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "trial_plots",
        sa.Column("job", sa.String(length=8), nullable=False),
        sa.Column("study", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("trial", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("title", sa.Text(), nullable=False),
        sa.Column("metrics", sa.Text(), nullable=False),
        sa.Column("x_axis", sa.Text(), nullable=False),
        sa.ForeignKeyConstraint(
            ["job", "study", "trial"],
            ["trials.job", "trials.study", "trials.number"],
            name=op.f("fk_trial_plots_job_study_trial"),
        ),
        sa.PrimaryKeyConstraint("job", "study", "trial", "title", name=op.f("pk_trial_plots")),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "checkpoint_tensors",
        sa.Column("job", sa.String(length=8), nullable=False),
        sa.Column("study", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("checkpoint", sa.String(length=24), nullable=False),
        sa.Column("path", sa.Text(), nullable=False),
        sa.Column("dtype", sa.String(length=24), nullable=False),
        sa.Column("shape", sa.Text(), nullable=False),
        sa.Column("sha256", sa.String(length=64), nullable=False),
        sa.Column("size_bytes", sa.BigInteger(), nullable=False),
        sa.Column("updates", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(
            ["job", "study", "checkpoint"],
            ["checkpoints.job", "checkpoints.study", "checkpoints.id"],
            name=op.f("fk_checkpoint_tensors_job_study_checkpoint"),
        ),
        sa.ForeignKeyConstraint(
            ["sha256"], ["blobs.sha256"], name=op.f("fk_checkpoint_tensors_sha256")
        ),
        sa.PrimaryKeyConstraint(
            "job", "study", "checkpoint", "path", name=op.f("pk_checkpoint_tensors")
        ),
        sqlite_with_rowid=False,
    )
