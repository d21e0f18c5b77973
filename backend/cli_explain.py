"""The command ``tiebreak explain``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from backend.cli_project import find_project, open_store
from backend.command import Json, command, errors, escaped
from backend.errors import SetupError
from backend.settings import Settings, load_settings

if TYPE_CHECKING:
    from PIL.Image import Image

    from backend.explainer import Explanation
    from backend.store import Store
    from backend.tables import Project

app = typer.Typer()

KINDS = (".html", ".png")


@app.command()
@command
def explain(
    image: Annotated[
        str, typer.Argument(metavar="IMAGE", help="An image file, or its http(s) address.")
    ],
    project: Annotated[
        str | None,
        typer.Option(help="Number or title of the project; may be left out where there is one."),
    ] = None,
    class_name: Annotated[
        str | None, typer.Option("--class", help="The class to explain; the likeliest if left out.")
    ] = None,
    control: Annotated[
        str | None, typer.Option(help="The control that answers; the first if left out.")
    ] = None,
    out: Annotated[
        Path,
        typer.Option(help="The page, or with a name in .png the picture, that is written."),
    ] = Path("explanation.html"),
    as_json: Json = False,
) -> dict[str, Any] | None:
    """Say what a project's model sees in an image, and where it sees it."""
    from backend.champion import Champions
    from backend.engine import LocalEngine
    from backend.explainer import Explainer
    from backend.explanation_files import explanation_json, write_explanation
    from backend.shared_files import shared_files

    if out.suffix.lower() not in KINDS:
        raise SetupError(f"{out} has no known kind.", mend="Give --out a name in .html or in .png.")
    settings = load_settings()
    store = open_store(settings)
    row = _project(store, project)
    picture = _picture(settings, image)
    champions = Champions(store, settings.data_dir, shared_files(settings))
    found = Explainer(settings, store, champions, LocalEngine(settings)).explain(
        row.id, picture, control=control, class_name=class_name
    )
    write_explanation(out, picture, found, title=f"{_shown_name(image)} in “{row.title}”")
    if not as_json:
        _print(found)
        errors.print(escaped(f"Where it looked is in {out}."))
    return {"project": row.id, **explanation_json(found), "out": str(out)}


def _project(store: Store, wanted: str | None) -> Project:
    if wanted is not None:
        return find_project(store, wanted)
    from sqlalchemy import select

    from backend.tables import Project

    with store.read() as session:
        rows = session.scalars(select(Project)).all()
    if len(rows) != 1:
        known = ", ".join(f"{row.id} “{row.title}”" for row in rows) or "none"
        raise SetupError(
            f"{len(rows)} projects are connected: {known}.", mend="Name one, with --project."
        )
    return rows[0]


def _picture(settings: Settings, image: str) -> Image:
    """The picture of a file or an address, as the trainer sees it."""
    from backend.images import ImageFetcher
    from backend.labelstudio import LabelStudio
    from backend.settings import label_studio_access

    client = None
    if settings.label_studio_url:
        client = LabelStudio(*label_studio_access(settings), settings.label_studio_timeout)
    fetcher = ImageFetcher(settings, client)
    try:
        if _is_address(image):
            digest = fetcher.fetch(image, 0)
        else:
            digest = fetcher.copies.put(_file(Path(image), settings.image_max_bytes))
        return fetcher.copies.open(digest)
    finally:
        fetcher.close()


def _is_address(image: str) -> bool:
    return image.startswith(("http://", "https://"))


def _shown_name(image: str) -> str:
    """What the page calls the picture. The query of an address may hold a secret signature."""
    from backend.images import shortened

    return Path(shortened(image) if _is_address(image) else image).name


def _file(path: Path, most: int) -> bytes:
    try:
        if path.stat().st_size > most:
            raise SetupError(
                f"{path} is larger than {most:,} bytes.",
                mend="TIEBREAK_IMAGE_MAX_BYTES is the limit.",
            )
        return path.read_bytes()
    except OSError as error:
        raise SetupError(
            f"{path} cannot be read ({error.strerror}).", mend="Name an image file."
        ) from None


def _print(found: Explanation) -> None:
    print(f"{found.label}: {found.confidence:.1%} by {found.version}, control {found.control}")
    for name, probability in found.top[1:]:
        print(f"  {name}: {probability:.1%}")
    print(f"explained: {found.explained}")
    for near in found.nearest:
        print(f"  near: task {near.task}, {', '.join(near.choices)} ({near.similarity:.2f})")
