"""Which versions served before, and which have no files any more"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

projects = sa.table(
    "projects",
    sa.column("id", sa.Integer),
    sa.column("champion", sa.Integer),
    sa.column("history", sa.JSON),
)
versions = sa.table(
    "versions",
    sa.column("project_id", sa.Integer),
    sa.column("number", sa.Integer),
    sa.column("kept", sa.Boolean),
)


def upgrade() -> None:
    # Columns are added in place: on SQLite a batch would make the table anew, and dropping the old
    # one would delete every row that refers to it.
    op.add_column("projects", sa.Column("history", sa.JSON(), nullable=False, server_default="[]"))
    op.add_column(
        "versions", sa.Column("pruned", sa.Boolean(), nullable=False, server_default=sa.false())
    )
    connection = op.get_bind()
    for project_id, champion in connection.execute(
        sa.select(projects.c.id, projects.c.champion).where(projects.c.champion > 0)
    ).all():
        before = sa.select(versions.c.number).where(
            versions.c.project_id == project_id,
            versions.c.kept,
            versions.c.number < champion,
        )
        numbers = connection.scalars(before.order_by(versions.c.number)).all()
        connection.execute(
            sa.update(projects).where(projects.c.id == project_id).values(history=list(numbers))
        )


def downgrade() -> None:
    op.drop_column("versions", "pruned")
    op.drop_column("projects", "history")
