"""Orders of the queue, each with its places"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "orders",
        sa.Column("project_id", sa.Integer(), primary_key=True, autoincrement=False),
        sa.Column("version", sa.Integer(), primary_key=True, autoincrement=False),
        sa.Column("number", sa.Integer(), primary_key=True, autoincrement=False),
        sa.Column("created_at", sa.Float(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("strategy", sa.String(40), nullable=False),
        sa.Column("audit_share", sa.Float(), nullable=False),
        sa.Column("pace", sa.Float(), nullable=False),
        sa.Column("known", sa.Integer(), nullable=False),
        sa.Column("picks", sa.JSON(), nullable=False),
        sa.Column("places", sa.LargeBinary(), nullable=False),
        sa.Column("scale", sa.JSON(), nullable=False),
        sa.ForeignKeyConstraint(["project_id"], ["projects.id"], ondelete="CASCADE"),
    )
    op.add_column("tasks", sa.Column("pushed_order", sa.Integer(), nullable=True))
    op.add_column(
        "projects", sa.Column("choosing", sa.Boolean(), nullable=False, server_default=sa.true())
    )
    _number_what_was_pushed()


def _number_what_was_pushed() -> None:
    """What Label Studio holds of each version is its first order, whose places nobody kept."""
    pushed = sa.table("tasks", sa.column("pushed_version"), sa.column("pushed_order"))
    op.execute(sa.update(pushed).where(pushed.c.pushed_version.is_not(None)).values(pushed_order=0))
    projects = sa.table("projects", sa.column("id"))
    versions = sa.table("versions", sa.column("project_id"), sa.column("number"))
    unknown = {
        "number": sa.literal(0),
        "created_at": sa.literal(0.0),
        "reason": sa.literal(""),
        "strategy": sa.literal(""),
        "audit_share": sa.literal(0.0),
        "pace": sa.literal(0.0),
        "known": sa.literal(0),
        "picks": sa.literal([], sa.JSON()),
        "places": sa.literal(b"", sa.LargeBinary()),
        "scale": sa.literal({}, sa.JSON()),
    }
    orders = sa.table("orders", *map(sa.column, ("project_id", "version", *unknown)))
    for which in (
        sa.select(projects.c.id, sa.literal(0), *unknown.values()),
        sa.select(versions.c.project_id, versions.c.number, *unknown.values()),
    ):
        op.execute(sa.insert(orders).from_select(list(orders.c.keys()), which))


def downgrade() -> None:
    op.drop_column("projects", "choosing")
    op.drop_column("tasks", "pushed_order")
    op.drop_table("orders")
