"""What every ``tiebreak`` command shares: how it fails, and what it prints where."""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import wraps
from typing import Annotated, Any, NoReturn, ParamSpec

import typer
from rich.console import Console
from rich.table import Table
from typer.core import TyperGroup

from model.errors import TiebreakError

errors = Console(stderr=True, highlight=False, soft_wrap=True)
Json = Annotated[
    bool, typer.Option("--json", help="Print one JSON object and nothing else on standard output.")
]
Parameters = ParamSpec("Parameters")


class Commands(TyperGroup):
    """Commands whose help shows no type behind a flag, which takes no value.

    Typer writes ``<bool>`` there, behind its own ``--help`` too; an empty metavar keeps it away.
    """

    def get_params(self, ctx: Any) -> Any:
        """The options of the group itself."""
        return _without_types(super().get_params(ctx))

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        """The command of that name."""
        found = super().get_command(ctx, cmd_name)
        if found is not None:
            _without_types(found.get_params(ctx))
        return found


def command(work: Callable[Parameters, dict[str, Any] | None]) -> Callable[Parameters, None]:
    """A command that may fail with a sentence and a mend instead of a traceback."""

    @wraps(work)
    def run(*args: Parameters.args, **kwargs: Parameters.kwargs) -> None:
        as_json = bool(kwargs.get("as_json"))
        try:
            found = work(*args, **kwargs)
        except TiebreakError as error:
            _fail(error, as_json)
        except Exception as error:
            if not _of_the_database(error):
                raise
            mend = "Check DATABASE_URL, TIEBREAK_DATA_DIR, the disk's space and its permissions."
            cause = getattr(error, "orig", error)
            _fail(TiebreakError(f"The database failed: {cause}.", mend=mend), as_json)
        if as_json and found is not None:
            print(json.dumps(found, ensure_ascii=False))

    return run


def _without_types(parameters: list[Any]) -> list[Any]:
    for parameter in parameters:
        if getattr(parameter, "is_flag", False):
            parameter.metavar = ""
    return parameters


def _of_the_database(error: Exception) -> bool:
    """Asked without loading the database's library: `password` has no use for it."""
    from sqlalchemy.exc import DBAPIError

    return isinstance(error, DBAPIError)


def escaped(text: str) -> str:
    """``text`` without any meaning to rich's markup."""
    return text.replace("[", r"\[")


def print_table(table: Table) -> None:
    """Print a table on standard output; in a file or a pipe it is as wide as it needs."""
    console = Console(highlight=False)
    if not console.is_terminal:
        console = Console(highlight=False, width=max(console.width, 160))
    console.print(table)


def _fail(error: TiebreakError, as_json: bool) -> NoReturn:
    if as_json:
        print(json.dumps({"error": error.message, "mend": error.mend}, ensure_ascii=False))
    else:
        errors.print(f"[bold red]error:[/] {escaped(error.message)}")
        if error.mend:
            errors.print(f"       {escaped(error.mend)}")
    raise typer.Exit(1)
