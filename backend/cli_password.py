"""The command ``tiebreak password``: what to type in where Tiebreak asks who is there."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from backend.command import Json, command, errors, escaped
from backend.secrets import credentials, place
from backend.settings import load_settings

app = typer.Typer()


@app.command()
@command
def password(
    token: Annotated[
        bool, typer.Option("--token", help="Print the API token instead, alone.")
    ] = False,
    as_json: Json = False,
) -> dict[str, Any] | None:
    """Print the user and the password of the page, the API and Label Studio's calls."""
    settings = load_settings()
    known = credentials(settings)
    if not as_json:
        if token:
            print(known.api_token)
        else:
            print(f"user:     {known.user}\npassword: {known.password}")
        kept = place(settings, "api_token" if token else "password")
        errors.print(escaped(f"It is kept in {kept}."))
    return {"user": known.user, "password": known.password, "api_token": known.api_token}
