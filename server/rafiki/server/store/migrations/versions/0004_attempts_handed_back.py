"""Attempts that were handed back: they do not count towards the attempts of a trial."""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"


def upgrade() -> None:
    """Adds the column; of earlier attempts none is known to have been handed back."""
    op.add_column(
        "trials", sa.Column("handed_back", sa.Integer(), nullable=False, server_default="0")
    )
