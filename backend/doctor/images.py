"""Check of where a project's images come from: some of each source are fetched.

By the product's own fetcher, with its checks and limits, into a folder that is removed afterwards.
"""

from __future__ import annotations

import tempfile
from collections import defaultdict
from collections.abc import Sequence
from itertools import islice
from pathlib import Path
from urllib.parse import urlsplit

from backend.doctor.examination import Examination
from backend.doctor.findings import Outcome, Skipped, failed, ok
from backend.errors import ImageError, LabelConfigError
from backend.images import ImageFetcher
from backend.label_config import parse_label_config
from model.plurals import counted

MOST_TASKS = 5000
OF_EACH, MOST_SOURCES = 3, 8

Sample = tuple[int, str]
"""A task, and the address of its image."""


def images(exam: Examination) -> Outcome:
    """Some images of each source can be fetched and decoded."""
    known = _sources(exam)
    if not known:
        raise Skipped("the project has no images yet")
    sources = dict(islice(known.items(), MOST_SOURCES))
    count, problems = 0, dict[str, ImageError]()
    with tempfile.TemporaryDirectory(prefix="tiebreak-doctor-") as folder:
        fetcher = _fetcher(exam, Path(folder))
        try:
            for source, samples in sources.items():
                for task, uri in spread(samples, OF_EACH):
                    count += 1
                    try:
                        fetcher.fetch(uri, task)
                    except ImageError as error:
                        problems.setdefault(f"{source}, task {task}", error)
        finally:
            fetcher.close()
    were = "was" if count == 1 else "were"
    if not problems:
        tried = f"{counted(count, 'image')} of {counted(len(sources), 'source')} {were} fetched"
        left = f"; {counted(len(known) - len(sources), 'more source')} not tried"
        return ok(f"{tried} ({', '.join(sources)}){left if len(known) > len(sources) else ''}")
    where, first = next(iter(problems.items()))
    return failed(
        f"{len(problems)} of {counted(count, 'image')} that {were} tried cannot be had. {where}: "
        f"{first.message}",
        first.mend
        or "See that Label Studio itself shows the task's image; the page lists every "
        "image that cannot be had, with its reason.",
    )


def _fetcher(exam: Examination, folder: Path) -> ImageFetcher:
    changes = {"data_dir": folder, "artifacts": None, "image_decoders": 1}
    return ImageFetcher(exam.settings.model_copy(update=changes), exam.client)


def _sources(exam: Examination) -> dict[str, list[Sample]]:
    """Source → samples, of the project's first tasks."""
    try:
        config = parse_label_config(exam.client.project(exam.project_id).label_config)
    except LabelConfigError:
        raise Skipped("nothing in the labelling config can be learned") from None
    found: dict[str, list[Sample]] = defaultdict(list)
    for task in islice(exam.client.tasks(exam.project_id), MOST_TASKS):
        for uri in {control.image_uri(task.data) for control in config.controls}:
            if uri:
                found[source_of(uri)].append((task.id, uri))
    return dict(found)


def source_of(uri: str) -> str:
    """What an image's address says of where it comes from: the storage, never the image."""
    text = uri.strip()
    if text[:5].lower() == "data:":
        return "data: in the task"
    if text.startswith("/"):
        for known in ("/data/upload/", "/data/local-files/"):
            if known in text:
                return known
        return "Label Studio"
    try:
        parts = urlsplit(text)
    except ValueError:
        return "an address that cannot be read"
    return f"{parts.scheme}://{parts.hostname or ''}"[:80]


def spread(samples: Sequence[Sample], count: int) -> list[Sample]:
    """The first, the last, and some between."""
    if len(samples) <= count:
        return list(samples)
    places = [round(n * (len(samples) - 1) / (count - 1)) for n in range(count)]
    return [samples[place] for place in places]
