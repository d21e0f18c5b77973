"""When a fine-tune is due, and what it is to learn: the labels of one moment, as a job."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from sqlalchemy import select
from sqlalchemy.orm import Session

from backend.dataset import fits_control
from backend.finetune_child import thread_count
from backend.finetune_files import Job, JobControl, JobOptions, JobRow
from backend.label_config import Control
from backend.settings import Settings
from backend.sync import controls_of
from backend.tables import ImageGroup, ImageSource, Label, Project, TaskImage
from backend.task_rows import AGREED
from model.audit import in_audit


@dataclass(frozen=True)
class LabelledImage:
    """An image that is not held out, and the choices of each control that has a label for it."""

    digest: str
    source: str
    uri: str
    task_id: int
    choices: Mapping[str, tuple[str, ...]]


def labelled_pool(
    session: Session, project: Project, audit_share: float
) -> tuple[LabelledImage, ...]:
    """The images to learn from, by digest: those that have a group, and it is not in the audit set.

    Of an image that several tasks show, the label of the first of them counts.
    """
    found: dict[str, LabelledImage] = {}
    for control in controls_of(project):
        rows = session.execute(
            select(Label.task_id, Label.choices, ImageSource, TaskImage.uri, ImageGroup.leader)
            .join(
                TaskImage,
                (TaskImage.project_id == Label.project_id) & (TaskImage.task_id == Label.task_id),
            )
            .join(ImageSource, ImageSource.source == TaskImage.source)
            .join(
                ImageGroup,
                (ImageGroup.project_id == project.id) & (ImageGroup.digest == ImageSource.digest),
            )
            .where(
                Label.project_id == project.id,
                Label.control == control.name,
                Label.status == AGREED,
                TaskImage.data_key == control.data_key,
            )
            .order_by(Label.task_id)
        )
        for task_id, choices, source, uri, leader in rows:
            digest = str(source.digest)
            if in_audit(leader, audit_share) or not fits_control(choices, control):
                continue
            known = found.get(digest)
            if known is None:
                known = LabelledImage(digest, source.source, uri, task_id, {})
            if control.name not in known.choices:
                labels = {**known.choices, control.name: tuple(choices)}
                found[digest] = LabelledImage(digest, known.source, known.uri, task_id, labels)
    return tuple(found[digest] for digest in sorted(found))


def count_labels(images: Sequence[LabelledImage]) -> int:
    """Labels of all controls."""
    return sum(len(image.choices) for image in images)


def not_due(
    images: Sequence[LabelledImage],
    controls: Sequence[Control],
    settings: Settings,
    learned: int | None,
) -> str:
    """Why no fine-tune is due, in words; empty when one is.

    Due are labels of at least two classes, of each class in use at least
    ``settings.finetune_min_per_class``, when they are ``settings.finetune_growth`` times as many
    as the ``learned`` ones of the last fine-tune. A class without any label is not in use; of a
    multiple choice the images count that have the class.
    """
    counts = {
        (control.name, name): count
        for control in controls
        for name, count in _count_classes(images, control.name).items()
    }
    if len(counts) < 2:
        return "labels of at least two different classes are needed"
    (_, scarcest), fewest = min(counts.items(), key=lambda item: (item[1], item[0]))
    least = settings.finetune_min_per_class
    if fewest < least:
        return f"{fewest} of {least} labels of “{scarcest}”"
    labels = count_labels(images)
    if learned is not None and labels < learned * settings.finetune_growth:
        wanted = -(-learned * settings.finetune_growth // 1)
        return f"{labels} of {wanted:.0f} labels"
    return ""


def make_job(
    project: Project, images: Sequence[LabelledImage], settings: Settings, identity: str
) -> Job:
    """The job of a fine-tune on these images, from the original backbone ``identity``."""
    controls = controls_of(project)
    positions = {c.name: {name: i for i, name in enumerate(c.classes)} for c in controls}
    return Job(
        backbone=settings.backbone,
        identity=identity,
        input_size=settings.input_size,
        weights_dir=settings.weights_dir.resolve() if settings.weights_dir else None,
        weights_cache=settings.weights_cache.resolve(),
        images=settings.working_copies.resolve(),
        image_side=settings.working_copy_side,
        artifacts=settings.artifacts,
        s3_endpoint=settings.s3_endpoint,
        copies_max_bytes=settings.copies_max_bytes,
        controls=tuple(
            JobControl(name=c.name, classes=tuple(c.classes), multiple=c.multiple) for c in controls
        ),
        rows=tuple(
            JobRow(
                digest=image.digest,
                targets={
                    name: tuple(sorted({positions[name][choice] for choice in choices}))
                    for name, choices in image.choices.items()
                },
            )
            for image in images
        ),
        options=JobOptions(
            epochs=settings.finetune_epochs,
            optimiser=settings.finetune_optimiser,
            backbone_rate=settings.finetune_backbone_rate,
            head_rate=settings.finetune_head_rate,
            momentum=settings.finetune_momentum,
            weight_decay=settings.finetune_weight_decay,
            augmentation_strength=settings.augmentation_strength,
            augmentation=settings.augmentation,
            balance=settings.class_balance,
            label_smoothing=settings.label_smoothing,
            mixup=settings.mixup,
            seed=settings.seed,
        ),
        threads=thread_count(),
        nice=settings.finetune_nice,
        ray_address=settings.ray_address if settings.engine == "ray" else "",
        ray_workers=settings.ray_workers,
    )


def _count_classes(images: Sequence[LabelledImage], control: str) -> Counter[str]:
    return Counter(name for image in images for name in set(image.choices.get(control, ())))
