"""Whether choosing pays, and when each task was labelled"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("projects", sa.Column("payoff", sa.JSON(), nullable=False, server_default="{}"))
    op.add_column("tasks", sa.Column("labelled_at", sa.Float(), nullable=True))
    # The next look compares everything, which fills in the dates.
    projects = sa.table("projects", sa.column("compared_at"))
    op.execute(sa.update(projects).values(compared_at=None))


def downgrade() -> None:
    op.drop_column("tasks", "labelled_at")
    op.drop_column("projects", "payoff")
