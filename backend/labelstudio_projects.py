"""Label Studio's projects: finding, changing and making them, and putting tasks in."""

from __future__ import annotations

import mimetypes
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from backend.batches import batched_lists
from backend.errors import LabelStudioError, LabelStudioNotFound
from backend.labelstudio_http import Transport
from backend.labelstudio_types import Project, read, read_all, read_count

_FIELDS = (
    "id,title,label_config,model_version,sampling,task_number,"
    "total_annotations_number,skipped_annotations_number,"
    "maximum_annotations,overlap_cohort_percentage,show_overlap_first,annotator_evaluation_enabled"
)
_PAGE = 100
_TASKS_IN_A_REQUEST = 5000
# Label Studio refuses more than 100 files in a request.
_FILES_IN_A_REQUEST = 50
_IMAGE_FILES = r".*\.([jJ][pP][eE]?[gG]|[pP][nN][gG]|[gG][iI][fF]|[bB][mM][pP]|[wW][eE][bB][pP])"
_NO_FILES = r"(?!)"
_LONG_SECONDS = 600.0


class ProjectCalls:
    """Calls about projects; a part of :class:`backend.labelstudio.LabelStudio`."""

    _http: Transport

    def project(self, project_id: int) -> Project:
        """One project; :class:`LabelStudioNotFound` when it does not exist."""
        path = f"/api/projects/{project_id}"
        return read(Project, self._http.get(path, {"include": _FIELDS}))

    def projects(self) -> list[Project]:
        """All projects that the token's user can see, newest first."""
        return [project for page in self._project_pages() for project in page]

    def find_project(self, id_or_title: str) -> Project:
        """The project with that number, or else with that title.

        Raises :class:`LabelStudioNotFound` with the titles there are, and
        :class:`LabelStudioError` when several projects have the title.
        """
        wanted = id_or_title.strip()
        if wanted.isdecimal():
            try:
                return self.project(int(wanted))
            except LabelStudioNotFound:
                pass
        projects = self.projects()
        named = [p for p in projects if p.title == wanted]
        named = named or [p for p in projects if p.title.casefold() == wanted.casefold()]
        if len(named) == 1:
            return self.project(named[0].id)
        if named:
            numbers = ", ".join(str(p.id) for p in named)
            raise LabelStudioError(
                f"Several projects have the title {wanted!r}.",
                mend=f"Name one by its number: {numbers}.",
            )
        raise LabelStudioNotFound(
            f"Label Studio has no project {wanted!r}.", status=404, mend=_known(projects)
        )

    def create_project(self, title: str, label_config: str) -> Project:
        """A new project; ``title`` has 3 to 50 characters."""
        body = {"title": title, "label_config": label_config}
        return read(Project, self._http.call("POST", "/api/projects/", json=body))

    def update_project(self, project_id: int, **fields: object) -> Project:
        """Set fields of a project, such as ``model_version`` and ``sampling``.

        A ``model_version`` has to be one that a prediction of the project, or a backend's title,
        already has.
        """
        answer = self._http.call("PATCH", f"/api/projects/{project_id}", json=fields)
        return read(Project, answer)

    def delete_project(self, project_id: int) -> None:
        """Delete a project with everything in it."""
        self._http.call("DELETE", f"/api/projects/{project_id}/", timeout=_LONG_SECONDS)

    def import_tasks(self, project_id: int, tasks: Sequence[dict[str, Any]]) -> int:
        """Add tasks (``{"data": {…}}``, or only the data); how many were added."""
        count = 0
        for some in batched_lists(tasks, _TASKS_IN_A_REQUEST):
            count += self._import(project_id, json=some)
        return count

    def upload_files(self, project_id: int, paths: Sequence[Path]) -> int:
        """Upload files into Label Studio's own storage, a task each; how many were added."""
        count = 0
        for some in batched_lists(paths, _FILES_IN_A_REQUEST):
            with ExitStack() as opened:
                files = [
                    (f"file{i}", (p.name, opened.enter_context(p.open("rb")), _media_type(p)))
                    for i, p in enumerate(some)
                ]
                count += self._import(project_id, files=files)
        return count

    def add_local_storage(self, project_id: int, path: Path, title: str = "Images") -> int:
        """Make the images below a folder tasks of a project; how many tasks it has made so far.

        The folder lies below the root that Label Studio serves local files from, as Label Studio
        sees it. A storage of the project for that folder is used again, so repeating this only
        adds images that are new.
        """
        storage_id = self._local_storage(
            project_id,
            path,
            title=title,
            regex_filter=_IMAGE_FILES,
            use_blob_urls=True,
            recursive_scan=True,
        )
        synced = self._http.call(
            "POST",
            f"/api/storages/localfiles/{storage_id}/sync",
            json={},
            timeout=_LONG_SECONDS,
        )
        return read_count(synced, "last_sync_count")

    def open_local_folder(self, project_id: int, path: Path, title: str = "Images") -> int:
        """Let a project's tasks show files below a folder, without making tasks; the storage's id.

        For tasks that are imported with ``/data/local-files/?d=…``: Label Studio serves those only
        from a folder that a storage of the project covers. Syncing this one adds nothing.
        """
        return self._local_storage(project_id, path, title=title, regex_filter=_NO_FILES)

    def _local_storage(self, project_id: int, path: Path, **fields: Any) -> int:
        """Number of the project's storage for a folder, made with ``fields`` when there is none."""
        route = "/api/storages/localfiles/"
        storages = self._http.get(route, {"project": project_id})
        known = (s for s in storages if Path(str(s.get("path"))) == path)
        storage = next(known, None) or self._http.call(
            "POST", route, json={"project": project_id, "path": str(path), **fields}
        )
        return read_count(storage, "id")

    def _import(self, project_id: int, **arguments: Any) -> int:
        path = f"/api/projects/{project_id}/import"
        answer = self._http.call("POST", path, timeout=_LONG_SECONDS, **arguments)
        return read_count(answer, "task_count")

    def _project_pages(self) -> Iterator[list[Project]]:
        page = 1
        while True:
            params = {"page": page, "page_size": _PAGE, "include": "id,title"}
            answer = self._http.get("/api/projects/", params)
            yield read_all(Project, answer.get("results"))
            if not answer.get("next"):
                return
            page += 1


def _known(projects: Sequence[Project]) -> str:
    if not projects:
        return "It has no project that this token's user can see."
    shown = ", ".join(f"{p.id} {p.title!r}" for p in projects[:10])
    more = f" and {len(projects) - 10} more" if len(projects) > 10 else ""
    return f"There are: {shown}{more}."


def _media_type(path: Path) -> str:
    return mimetypes.guess_type(path.name)[0] or "application/octet-stream"
