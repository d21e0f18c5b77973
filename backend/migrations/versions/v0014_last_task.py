"""The last task that was there when an order was made"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0014"
down_revision = "0013"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column(
        "orders", sa.Column("last_task", sa.Integer(), nullable=False, server_default="0")
    )
    orders = sa.table("orders", sa.column("project_id"), sa.column("last_task"))
    tasks = sa.table("tasks", sa.column("project_id"), sa.column("id"))
    # Nothing kept says what was there then. Taking all for old rather says too little of new
    # images than too much.
    newest = (
        sa.select(sa.func.coalesce(sa.func.max(tasks.c.id), 0))
        .where(tasks.c.project_id == orders.c.project_id)
        .scalar_subquery()
    )
    op.execute(sa.update(orders).values(last_task=newest))


def downgrade() -> None:
    op.drop_column("orders", "last_task")
