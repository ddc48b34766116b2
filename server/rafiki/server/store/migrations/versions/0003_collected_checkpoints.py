"""Checkpoints whose tensors were collected; which tensors name a blob."""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    """Adds a column and an index; nothing had been collected before."""
    op.add_column("checkpoints", sa.Column("collect_time", sa.BigInteger(), nullable=True))
    op.create_index("ix_checkpoint_tensors_sha256", "checkpoint_tensors", ["sha256"])
