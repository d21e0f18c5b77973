"""Images that people try on the page: explained, and made labelled tasks where they say so.

An image arrives as an address or, from a file, as a ``data:`` URI in JSON: like that of a task it
is fetched by :mod:`backend.images` and decoded in a child. Nothing else leads to an image: paths of
Label Studio and storages belong to tasks.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from backend.data_uris import read_data_uri
from backend.errors import ImageError, LabelStudioError
from backend.explainer import BusyError, Explainer
from backend.explanation_files import explanation_json, picture_uri
from backend.hints import add_hint
from backend.images import ImageFetcher, shortened
from backend.label_config import Control
from backend.labelstudio import LabelStudio
from backend.settings import Settings
from backend.store import Store
from backend.web_errors import RETRY_SECONDS, RequestError
from backend.working_copies import WorkingCopies
from model.errors import ArgumentError, StorageError, TiebreakError, WeightsError

_MEDIA = {
    "png": "image/png",
    "jpg": "image/jpeg",
    "jpeg": "image/jpeg",
    "gif": "image/gif",
    "bmp": "image/bmp",
    "webp": "image/webp",
}
"""The kinds of files that Label Studio and browsers show."""


class Trials:
    """Tries images on what the projects have learned."""

    def __init__(
        self,
        settings: Settings,
        store: Store,
        fetcher: ImageFetcher,
        explainer: Explainer,
        client: LabelStudio,
    ) -> None:
        self._most = settings.image_max_bytes
        self._store = store
        self._fetcher = fetcher
        self._explainer = explainer
        self._client = client

    def close(self) -> None:
        """Close the connections, and end the processes that decode."""
        self._fetcher.close()
        self._client.close()

    @property
    def copies(self) -> WorkingCopies:
        """The working copies of all images."""
        return self._fetcher.copies

    def explain(
        self, project_id: int, uri: str, control: str | None, class_name: str | None
    ) -> dict[str, Any]:
        """What the champion says of an image, with its layers as ``data:`` URIs.

        :class:`RequestError` 400 for an image that cannot be had, a control or class that is not
        there, or a project that has learned nothing; 503 when it cannot be told now.
        """
        digest = self._fetch(uri)
        try:
            image = self.copies.open(digest)
            found = self._explainer.explain(
                project_id, image, control=control, class_name=class_name
            )
        except (BusyError, WeightsError, ImageError) as error:
            raise _later(error) from None
        except StorageError:
            raise
        except ArgumentError as error:
            raise RequestError(400, "unknown_choice", error.message) from None
        except TiebreakError as error:
            raise RequestError(400, "nothing_learned", error.message, error.mend) from None
        layers = {
            "superpixels": picture_uri(found.superpixels),
            "heat": picture_uri(found.heat),
        }
        return explanation_json(found) | layers | {"digest": digest}

    def make_task(
        self,
        project_id: int,
        controls: Sequence[Control],
        uri: str,
        name: str,
        choices: Mapping[str, Sequence[str]],
        *,
        train: bool,
    ) -> int:
        """Make an image a labelled task of a project; its number. ``train`` asks for a training.

        :class:`RequestError` 400 when choices or image do not fit, before anything is made; 503
        when Label Studio does not take it.
        """
        result = _result(controls, choices)
        keys = {control.data_key for control in controls}
        if len(keys) != 1:
            raise RequestError(
                400,
                "several_images",
                f"Tasks of this project show {len(keys)} images.",
                "Add the task in Label Studio.",
            )
        self._fetch(uri)
        file_name = "" if _is_address(uri) else _file_name(name)
        try:
            if file_name:
                data = read_data_uri(uri, self._most)
                media = _MEDIA[file_name.rpartition(".")[2]]
                task = self._client.upload_image(project_id, file_name, data, media)
            else:
                task = self._client.add_task(project_id, {keys.pop(): uri})
        except LabelStudioError as error:
            raise _later(error) from None
        try:
            self._client.annotate(task, result)
        except LabelStudioError as error:
            message = f"Task {task} is made, but has no label yet. {error.message}"
            raise _later(type(error)(message, mend=f"Label task {task} in Label Studio.")) from None
        finally:
            add_hint(self._store, project_id, "TASK_TRIED", [task], train=train)
        return task

    def _fetch(self, uri: str) -> str:
        """Digest of the image at an address or in a ``data:`` URI, of which a copy is kept."""
        if not _is_address(uri) and not uri.startswith("data:"):
            raise RequestError(
                400,
                "no_image",
                "This is no address of an image.",
                "Give one that starts with http:// or https://, or drop a file.",
            )
        try:
            return self._fetcher.fetch(uri, 0)
        except StorageError:
            raise
        except ImageError as error:
            raise _no_image(uri, error) from None


def _no_image(uri: str, error: ImageError) -> RequestError:
    if _is_address(uri):
        mend = error.mend or "Check the address, or drop the file itself."
        return RequestError(400, "no_image", error.message, mend)
    # Who drops a file has seen no URI of it.
    message = error.message.removeprefix(f"{shortened(uri)}: ")
    return RequestError(400, "no_image", message, error.mend or "Drop another file.")


def _is_address(uri: str) -> bool:
    return uri.startswith(("http://", "https://"))


def _result(
    controls: Sequence[Control], choices: Mapping[str, Sequence[str]]
) -> list[dict[str, Any]]:
    """Label Studio's result for the choices of some controls."""
    known = {control.name: control for control in controls}
    result = []
    for name, chosen in choices.items():
        control = known.get(name)
        if control is None:
            raise RequestError(400, "unknown_choice", f"There is no control {name!r}.")
        odd = [each for each in chosen if each not in control.classes]
        if odd or not chosen or (len(chosen) > 1 and not control.multiple):
            what = f"{odd[0]!r} is no choice" if odd else f"{len(chosen)} choices are given"
            raise RequestError(400, "unknown_choice", f"{what} of the control {name!r}.")
        result.append(
            {
                "from_name": control.name,
                "to_name": control.to_name,
                "type": "choices",
                "value": {"choices": list(dict.fromkeys(chosen))},
            }
        )
    if not result:
        raise RequestError(400, "no_choice", "No choice is given.", "Choose what the image is.")
    return result


def _file_name(name: str) -> str:
    """A name that is safe in a path, with a known ending in small letters."""
    stem, dot, ending = name.rpartition(".")
    if not dot or ending.lower() not in _MEDIA:
        raise RequestError(
            400,
            "unknown_kind",
            "Label Studio cannot show a file of this kind.",
            f"Send one whose name ends in {', '.join(_MEDIA)}.",
        )
    safe = re.sub(r"[^A-Za-z0-9_-]+", "-", stem).strip("-")[:80]
    return f"{safe or 'image'}.{ending.lower()}"


def _later(error: TiebreakError) -> RequestError:
    wait = {"Retry-After": str(RETRY_SECONDS)}
    return RequestError(503, "not_now", error.message, error.mend, wait)
