"""Which request left a hint, and which requests a project's trainer follows"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None


def upgrade() -> None:
    for table in ("hints", "finetunes"):
        op.add_column(
            table, sa.Column("request_id", sa.String(64), nullable=False, server_default="")
        )
    op.add_column(
        "projects", sa.Column("following", sa.JSON(), nullable=False, server_default="[]")
    )


def downgrade() -> None:
    op.drop_column("projects", "following")
    for table in ("finetunes", "hints"):
        op.drop_column(table, "request_id")
