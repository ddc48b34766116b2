"""Pauses of jobs; intermediate scores and merged weights in the event log."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    """Adds columns; what is stored stays true, as no job was paused and no event had them."""
    op.add_column("train_jobs", sa.Column("pause_time", sa.BigInteger(), nullable=True))
    op.add_column(
        "train_jobs",
        sa.Column("paused_us", sa.BigInteger(), nullable=False, server_default="0"),
    )
    op.add_column("study_events", sa.Column("step", sa.BigInteger(), nullable=True))
    op.add_column("study_events", sa.Column("score", sa.Float(), nullable=True))
    op.add_column("study_events", sa.Column("round", sa.Integer(), nullable=True))
    op.add_column("study_events", sa.Column("checkpoint", sa.Text(), nullable=True))
    op.add_column("study_events", sa.Column("merge_s", sa.Float(), nullable=True))
    op.add_column("study_events", sa.Column("message", sa.Text(), nullable=True))
    # Advisors remember other things now; without a snapshot a study is folded from its events.
    op.execute("DELETE FROM snapshots")
