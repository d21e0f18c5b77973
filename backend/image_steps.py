"""The steps about images: fetch and embed them, and find which of them are near-duplicates.

Labelled images come first, so that a training waits for nothing else. Groups of near-duplicates are
found by the original backbone; a fine-tuned network embeds what it serves beside it.
"""

from __future__ import annotations

import math
from collections.abc import Callable

from sqlalchemy import func, select

from backend import clock
from backend.broken_images import next_retry
from backend.groups import count_ungrouped, group_images
from backend.pool import embed_chunk, first_missing
from backend.sync import controls_of
from backend.tables import ImageGroup, Project
from backend.tools import Tools
from backend.tuned_networks import TunedNetwork, comparable, find_tuned, tuned_folder

FEWEST_TO_GROUP = 128
SHARE_TO_GROUP = 0.1
"""All leaders are read for each go at finding groups, so that goes get larger with the pool."""


class ImageSteps:
    """The images of one project. Each step returns True when it did something.

    ``say`` is told what is being done, ``wake_before`` when to look again at the latest.
    """

    def __init__(
        self,
        tools: Tools,
        project_id: int,
        say: Callable[[str], None],
        wake_before: Callable[[float | None], None],
    ) -> None:
        self.tools = tools
        self.project_id = project_id
        self._say = say
        self._wake_before = wake_before
        self._embedded = False

    def embed_labelled(self) -> bool:
        """Embed the next images that have a label."""
        return self._embed(labelled_only=True)

    def embed_pool(self) -> bool:
        """Embed the next images."""
        done = self._embed(labelled_only=False)
        self._embedded = not done
        return done

    def group_labelled(self) -> bool:
        """Find the groups of what is to be learned from."""
        return self._group(labelled_only=True)

    def group_many(self) -> bool:
        """Find groups while images are still being embedded, when many wait for theirs."""
        if self._complete is not None or not self._is_asked():
            return False
        with self.tools.store.read() as session:
            waiting = count_ungrouped(session, self.project_id, self.tools.engine.backbone)
            if waiting < FEWEST_TO_GROUP:
                return False
            known = select(func.count()).where(ImageGroup.project_id == self.project_id)
            if waiting < SHARE_TO_GROUP * (session.scalar(known) or 0):
                return False
        return self._group(labelled_only=False)

    def group_rest(self) -> bool:
        """Find the groups of all that is embedded."""
        done = self._group(labelled_only=False)
        if not done and self._embedded and self._complete is None:
            with self.tools.store.read() as session:
                retry = next_retry(session, self.project_id)
            until = clock.now() + self.tools.settings.poll_seconds
            retry = math.inf if retry is None else retry
            calm, what = self.tools.calm, ("images", *self._backbones)
            calm.keep(self.project_id, what, retry, min(until, retry))
        return done

    @property
    def _backbones(self) -> list[str]:
        # The original first: what it has not seen has no group, and is neither learned nor served.
        tuned = self.tuned()
        return [self.tools.engine.backbone, *([tuned.identity] if tuned else [])]

    @property
    def _complete(self) -> float | None:
        """When the next image is tried again, if each was lately found to be embedded and in its
        group, or to have failed."""
        if not self.tools.engine.loaded:
            return None
        retry: float | None = self.tools.calm.find(self.project_id, ("images", *self._backbones))
        return retry

    def tuned(self) -> TunedNetwork | None:
        """The fine-tuned network that the champion reads, where it reads one that is of use."""
        champion = self.tools.champions.get(self.project_id)
        if champion is None or not comparable(champion, self.tools.engine.backbone):
            return None
        return find_tuned(tuned_folder(self.tools.settings.data_dir), champion.backbone)

    def _is_asked(self) -> bool:
        """Whether there is anything to learn from images."""
        with self.tools.store.read() as session:
            project = session.get_one(Project, self.project_id)
            return not project.gone and bool(controls_of(project))

    def _embed(self, *, labelled_only: bool) -> bool:
        retry = self._complete
        if retry is not None:
            self._wake_before(retry)
            return False
        if not self._is_asked():
            return False
        tools = self.tools
        if not tools.engine.loaded:
            self._say(f"loading {tools.settings.backbone}")
        return any(self._embed_by(each, labelled_only=labelled_only) for each in self._backbones)

    def _embed_by(self, backbone: str, *, labelled_only: bool) -> bool:
        tools = self.tools
        first = 0 if labelled_only else self._first_missing(backbone)
        if not labelled_only:
            with tools.store.read() as session:
                self._wake_before(next_retry(session, self.project_id))
            if first is not None:
                # How many is counted by who looks: a number written here would soon be an old one.
                self._say("embedding images")
        if first is None:
            return False
        done = embed_chunk(
            tools.store,
            tools.fetcher,
            tools.copies,
            tools.engine,
            self.project_id,
            labelled_only=labelled_only,
            workers=tools.settings.image_workers,
            backbone=backbone,
            progress=tools.watch.progress,
            from_task=first,
        )
        if done:
            tools.calm.disturb(self.project_id)
        if done and not labelled_only:
            until = clock.now() + tools.settings.poll_seconds
            tools.calm.keep(self.project_id, ("missing", backbone), first, until)
        return done > 0

    def _first_missing(self, backbone: str) -> int | None:
        """The first task whose image is to be embedded. The search goes on where it ended last, so
        that a large pool is gone through once and not for each chunk; at the end once more from the
        first task, for those that failed and are tried again."""
        begin = self.tools.calm.find(self.project_id, ("missing", backbone)) or 0
        with self.tools.store.read() as session:
            first = first_missing(session, self.project_id, backbone, begin)
            if first is None and begin:
                first = first_missing(session, self.project_id, backbone, 0)
        return first

    def _group(self, *, labelled_only: bool) -> bool:
        tools = self.tools
        if self._complete is not None or not self._is_asked():
            return False
        backbone = tools.engine.backbone
        done = group_images(
            tools.store, tools.leases, self.project_id, backbone, labelled_only=labelled_only
        )
        if done:
            tools.calm.disturb(self.project_id)
        return done > 0
