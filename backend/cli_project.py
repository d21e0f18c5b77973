"""What commands about a project share: its argument, and where the project is found."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from backend.data_folder import require_database
from backend.errors import SetupError
from backend.settings import Settings

if TYPE_CHECKING:
    from backend.store import Store
    from backend.tables import Project

ProjectArgument = Annotated[
    str, typer.Argument(metavar="PROJECT", help="Number or title of a Label Studio project.")
]


def open_store(settings: Settings) -> Store:
    """The tables that are there, brought up to date; :class:`SetupError` where there are none."""
    require_database(settings)
    return make_store(settings)


def make_store(settings: Settings) -> Store:
    """The tables, made where there are none, and brought up to date."""
    from backend.store import Store

    store = Store(settings.database_address)
    store.migrate()
    return store


def find_project(store: Store, wanted: str) -> Project:
    """The connected project of that number or title.

    Raises :class:`SetupError` when there is none, or more than one.
    """
    from sqlalchemy import select

    from backend.tables import Project

    with store.read() as session:
        rows = session.scalars(select(Project)).all()
    found = [row for row in rows if str(row.id) == wanted] or [
        row for row in rows if row.title == wanted
    ]
    if len(found) == 1:
        return found[0]
    known = ", ".join(f"{row.id} “{row.title}”" for row in rows) or "none"
    raise SetupError(
        f"“{wanted}” names {len(found)} connected projects; connected: {known}.",
        mend="Give a project's number, or connect it first: tiebreak connect PROJECT",
    )
