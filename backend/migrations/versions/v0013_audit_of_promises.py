"""Which audit images are as sure as what a promise covers"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0013"
down_revision = "0012"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("auto_runs", sa.Column("audit", sa.JSON, nullable=False, server_default="[]"))


def downgrade() -> None:
    op.drop_column("auto_runs", "audit")
