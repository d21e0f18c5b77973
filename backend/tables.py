"""The tables. Everything in them can be derived again from Label Studio, except the versions,
and what was ticked for people and what they first said to it.

Times are seconds since the epoch, UTC, as floats.
"""

from __future__ import annotations

from typing import Any

from sqlalchemy import JSON, Float, ForeignKey, Index, LargeBinary, String, Text
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column


def version_name(number: int) -> str:
    """Name of a version; v0 is what serves while nothing is learned."""
    return f"v{number}"


def order_name(version: int, number: int) -> str:
    """What Label Studio calls an order of a version's predictions: v3, the next ones v3.1, v3.2."""
    return f"{version_name(version)}.{number}" if number else version_name(version)


def storable(text: str, most: int | None = None) -> str:
    """Others' text as every database takes it: PostgreSQL knows no NUL, and keeps to ``most``."""
    return text.replace("\0", "\ufffd")[:most]


class Base(DeclarativeBase):
    """Root of the tables."""


class Project(Base):
    """A Label Studio project that Tiebreak keeps in its wanted state."""

    __tablename__ = "projects"

    id: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    title: Mapped[str] = mapped_column(Text, default="")
    label_config: Mapped[str] = mapped_column(Text, default="")
    config_problem: Mapped[str] = mapped_column(Text, default="")
    connected_at: Mapped[float] = mapped_column(Float)
    looked_at: Mapped[float | None] = mapped_column(Float)
    """When the last periodic look was."""
    compared_at: Mapped[float | None] = mapped_column(Float)
    """When everything, changed or not, was last compared with Label Studio."""
    cursor: Mapped[str] = mapped_column(String(40), default="")
    """The newest change of a task that was seen, as Label Studio dates it."""
    gone: Mapped[bool] = mapped_column(default=False)
    """The project no longer exists in Label Studio."""
    train_requested_at: Mapped[float | None] = mapped_column(Float)
    """When somebody asked for a training that has not been answered yet."""
    attempted: Mapped[str] = mapped_column(String(64), default="")
    """Digest of the labels, config and backbone of the last training, kept or refused."""
    attempted_setup: Mapped[str] = mapped_column(String(64), default="")
    """Digest of the config and backbone alone of the last training."""
    changed_at: Mapped[float | None] = mapped_column(Float)
    """When a label was last seen to change."""
    due_since: Mapped[float | None] = mapped_column(Float)
    """When enough labels had changed for a retraining."""
    champion: Mapped[int] = mapped_column(default=0)
    """Version that serves; 0 while nothing is learned."""
    history: Mapped[list[int]] = mapped_column(JSON, default=list)
    """Versions that served before it and can be gone back to, the last one last."""
    choosing: Mapped[bool] = mapped_column(default=True)
    """Whether the strategy chooses what comes next; else chance does."""
    payoff: Mapped[dict[str, Any]] = mapped_column(JSON, default=dict)
    """What comparisons of the queue with chance have shown: see :mod:`backend.payoff`."""
    served: Mapped[str] = mapped_column(String(32), default="")
    """Name of the order that Label Studio was last told to go by."""
    pushing: Mapped[bool] = mapped_column(default=False)
    """A push began and was not seen to end, or the champion was changed by hand: ask Label Studio
    what it holds."""
    following: Mapped[list[str]] = mapped_column(JSON, default=list)
    """Ids of the requests whose hints were followed and whose labels are not learned yet."""
    activity: Mapped[str] = mapped_column(Text, default="")
    waiting: Mapped[str] = mapped_column(Text, default="")
    error: Mapped[str] = mapped_column(Text, default="")
    failures: Mapped[int] = mapped_column(default=0)
    retry_at: Mapped[float] = mapped_column(Float, default=0.0)


class Task(Base):
    """A task of Label Studio and what was pushed for it."""

    __tablename__ = "tasks"

    project_id: Mapped[int] = mapped_column(
        ForeignKey("projects.id", ondelete="CASCADE"), primary_key=True
    )
    id: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    is_labeled: Mapped[bool] = mapped_column(default=False)
    """Label Studio needs no more annotations for it."""
    annotations: Mapped[int] = mapped_column(default=0)
    """Submitted annotations of people that are not skips."""
    skips: Mapped[int] = mapped_column(default=0)
    labelled_at: Mapped[float | None] = mapped_column(Float)
    """When the first annotation was submitted that is no skip, as Label Studio dates it."""
    updated_at: Mapped[str] = mapped_column(String(40), default="")
    pushed_version: Mapped[int | None] = mapped_column()
    pushed_order: Mapped[int | None] = mapped_column()
    """Number of the order among those of the version."""
    pushed_score: Mapped[float | None] = mapped_column(Float)
    """Empty where a push was not seen to end."""


class TaskImage(Base):
    """The image that a task shows under one data key."""

    __tablename__ = "task_images"
    __table_args__ = (Index("task_images_source", "source"),)

    project_id: Mapped[int] = mapped_column(
        ForeignKey("projects.id", ondelete="CASCADE"), primary_key=True
    )
    task_id: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    data_key: Mapped[str] = mapped_column(String(255), primary_key=True)
    uri: Mapped[str] = mapped_column(Text)
    source: Mapped[str] = mapped_column(String(64))
    """SHA-256 of the URI, the key of :class:`ImageSource`."""


class ImageSource(Base):
    """What became of an image URI: the digest of its bytes, or why it cannot be had."""

    __tablename__ = "image_sources"

    source: Mapped[str] = mapped_column(String(64), primary_key=True)
    digest: Mapped[str | None] = mapped_column(String(64), index=True)
    failure: Mapped[str] = mapped_column(Text, default="")
    attempts: Mapped[int] = mapped_column(default=0)
    retry_at: Mapped[float | None] = mapped_column(Float)
    """When to try again; never, where it is empty and there is a failure."""


class Embedding(Base):
    """An image's embedding by one backbone: float16, little-endian."""

    __tablename__ = "embeddings"

    digest: Mapped[str] = mapped_column(String(64), primary_key=True)
    backbone: Mapped[str] = mapped_column(String(120), primary_key=True)
    vector: Mapped[bytes] = mapped_column(LargeBinary)


class ImageGroup(Base):
    """Which near-duplicates an image belongs to. Written once and never changed."""

    __tablename__ = "image_groups"
    __table_args__ = (Index("image_groups_digest", "project_id", "digest", unique=True),)

    id: Mapped[int] = mapped_column(primary_key=True, autoincrement=True)
    """Ascends in the order in which the groups were found."""
    project_id: Mapped[int] = mapped_column(ForeignKey("projects.id", ondelete="CASCADE"))
    digest: Mapped[str] = mapped_column(String(64))
    leader: Mapped[str] = mapped_column(String(64))
    """Digest of the image that the others of the group are near; its own, where it leads."""


class Label(Base):
    """What the people agreed on for one task and one control."""

    __tablename__ = "labels"

    project_id: Mapped[int] = mapped_column(
        ForeignKey("projects.id", ondelete="CASCADE"), primary_key=True
    )
    task_id: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    control: Mapped[str] = mapped_column(String(255), primary_key=True)
    status: Mapped[str] = mapped_column(String(10))
    """agreed, tied, outside (a class that the config does not have) or gone."""
    choices: Mapped[list[str]] = mapped_column(JSON)
    votes: Mapped[int] = mapped_column(default=0)
    detail: Mapped[str] = mapped_column(Text, default="")
    learned: Mapped[list[str] | None] = mapped_column(JSON(none_as_null=True))
    """The choices that the last training saw; empty where it saw none."""


class AutoRun(Base):
    """One promise under which Tiebreak accepted its own answers: see :mod:`backend.auto_label`."""

    __tablename__ = "auto_runs"
    __table_args__ = (Index("auto_runs_project", "project_id"),)

    id: Mapped[int] = mapped_column(primary_key=True, autoincrement=True)
    project_id: Mapped[int] = mapped_column(ForeignKey("projects.id", ondelete="CASCADE"))
    created_at: Mapped[float] = mapped_column(Float)
    state: Mapped[str] = mapped_column(String(12))
    """accepting, done, paused or undone."""
    version: Mapped[int] = mapped_column()
    control: Mapped[str] = mapped_column(String(255))
    max_error: Mapped[float] = mapped_column(Float)
    confidence: Mapped[float] = mapped_column(Float)
    promise: Mapped[list[dict[str, Any]]] = mapped_column(JSON)
    """What it stands on, one entry or one for each class: see :class:`model.risk.Promise`."""
    reason: Mapped[str] = mapped_column(Text, default="")
    """Why it is paused."""
    owner: Mapped[str] = mapped_column(String(120), default="")
    """The command that writes its annotations, and its last sign of life."""
    heartbeat_at: Mapped[float] = mapped_column(Float, default=0.0)


class AutoLabel(Base):
    """A task that a promise covers: accepted, or left to people as a check of it."""

    __tablename__ = "auto_labels"

    run_id: Mapped[int] = mapped_column(
        ForeignKey("auto_runs.id", ondelete="CASCADE"), primary_key=True
    )
    task_id: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    choice: Mapped[str] = mapped_column(Text)
    sureness: Mapped[float] = mapped_column(Float)
    """Calibrated probability of the choice."""
    check: Mapped[bool] = mapped_column()
    annotation_id: Mapped[int | None] = mapped_column()
    """Its annotation in Label Studio; empty where none was seen to be made."""
    left_out: Mapped[bool] = mapped_column(default=False)
    """A person was there first, or the task is gone."""


class Vote(Base):
    """What one annotator says about one task: the annotation of theirs that counts."""

    __tablename__ = "votes"

    project_id: Mapped[int] = mapped_column(
        ForeignKey("projects.id", ondelete="CASCADE"), primary_key=True
    )
    task_id: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    annotation_id: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    annotator: Mapped[int | None] = mapped_column()
    """Number of the user in Label Studio."""
    choices: Mapped[dict[str, list[str]]] = mapped_column(JSON)
    """Control → what is ticked; without the controls that nothing is said about."""
    seconds: Mapped[float | None] = mapped_column(Float)
    """How long the task was open."""


class SentPart(Base):
    """What predictions of an order ticked or withheld that were sent together.

    Of an order that is not the last one of its version they are forgotten after a day.
    """

    __tablename__ = "sent_parts"
    __table_args__ = (Index("sent_parts_order", "project_id", "version", "number"),)

    id: Mapped[int] = mapped_column(primary_key=True, autoincrement=True)
    """Ascends in the order in which they were sent."""
    project_id: Mapped[int] = mapped_column(ForeignKey("projects.id", ondelete="CASCADE"))
    version: Mapped[int] = mapped_column()
    number: Mapped[int] = mapped_column()
    """Number of the order among those of the version."""
    blind_share: Mapped[float] = mapped_column(Float)
    """The share of images by which they were withheld."""
    begun_at: Mapped[float] = mapped_column(Float)
    sent_at: Mapped[float | None] = mapped_column(Float)
    """When Label Studio had them; empty where that was not seen."""
    offers: Mapped[list[dict[str, Any]]] = mapped_column(JSON)
    """Control → state and choices, each that occurs once."""
    tasks: Mapped[bytes] = mapped_column(LargeBinary)
    """The tasks and the positions of their offers: see :mod:`backend.offers`."""


class Serving(Base):
    """Label Studio was told to go by an order."""

    __tablename__ = "servings"
    __table_args__ = (Index("servings_project", "project_id"),)

    id: Mapped[int] = mapped_column(primary_key=True, autoincrement=True)
    project_id: Mapped[int] = mapped_column(ForeignKey("projects.id", ondelete="CASCADE"))
    version: Mapped[int] = mapped_column()
    number: Mapped[int] = mapped_column()
    begun_at: Mapped[float] = mapped_column(Float)
    served_at: Mapped[float | None] = mapped_column(Float)
    """When it had been told; empty where that was not seen."""


class FirstAnswer(Base):
    """What an annotator said first of a task, and what the model said of it when they opened it.

    One row for each control that is answered, with the name empty where none is. Never changed.
    """

    __tablename__ = "first_answers"

    project_id: Mapped[int] = mapped_column(
        ForeignKey("projects.id", ondelete="CASCADE"), primary_key=True
    )
    task_id: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    annotator: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    """Number of the user in Label Studio."""
    control: Mapped[str] = mapped_column(String(255), primary_key=True)
    annotation_id: Mapped[int] = mapped_column()
    answered_at: Mapped[float] = mapped_column(Float)
    state: Mapped[str] = mapped_column(String(12))
    """ticked, blind or audit; or why it does not count: see :mod:`backend.first_answers`."""
    version: Mapped[int | None] = mapped_column()
    """The version that said it; empty where none did."""
    blind_share: Mapped[float | None] = mapped_column(Float)
    """The share of images that were blind then."""
    said: Mapped[list[str] | None] = mapped_column(JSON(none_as_null=True))
    """The choices of the model."""
    given: Mapped[list[str]] = mapped_column(JSON)
    differs: Mapped[bool | None] = mapped_column()
    """Whether the annotator's choices are others."""


class QualityCheck(Base):
    """What was found the last time a project's labels and images were checked."""

    __tablename__ = "quality_checks"

    project_id: Mapped[int] = mapped_column(
        ForeignKey("projects.id", ondelete="CASCADE"), primary_key=True
    )
    mark: Mapped[str] = mapped_column(String(64))
    """Digest of the labels, votes and images that were looked at."""
    checked_at: Mapped[float] = mapped_column(Float)
    seconds: Mapped[float] = mapped_column(Float)
    """How long it took."""
    labels: Mapped[int] = mapped_column()
    """How many labels were checked."""
    suspicious: Mapped[list[dict[str, Any]]] = mapped_column(JSON)
    """The worst first: see :mod:`backend.suspicious`."""
    drift: Mapped[dict[str, Any]] = mapped_column(JSON)
    """Data key → how new images differ from old ones."""


class Version(Base):
    """A trained model: the champion, one that was, or a challenger that was refused."""

    __tablename__ = "versions"

    project_id: Mapped[int] = mapped_column(
        ForeignKey("projects.id", ondelete="CASCADE"), primary_key=True
    )
    number: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    created_at: Mapped[float] = mapped_column(Float)
    kept: Mapped[bool] = mapped_column()
    reason: Mapped[str] = mapped_column(Text)
    labels: Mapped[int] = mapped_column()
    backbone: Mapped[str] = mapped_column(String(120))
    metrics: Mapped[dict[str, Any]] = mapped_column(JSON)
    pruned: Mapped[bool] = mapped_column(default=False)
    """Its files were removed."""
    files: Mapped[str] = mapped_column(String(64), default="", server_default="")
    """Digest that names its objects in the shared bucket; empty where only a folder has it."""


class Order(Base):
    """One order of the queue: the places that were given to the tasks of one moment.

    Never changed, but that the places are forgotten once the version has a newer order.
    """

    __tablename__ = "orders"

    project_id: Mapped[int] = mapped_column(
        ForeignKey("projects.id", ondelete="CASCADE"), primary_key=True
    )
    version: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    number: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    created_at: Mapped[float] = mapped_column(Float)
    reason: Mapped[str] = mapped_column(Text)
    """Why it was made."""
    strategy: Mapped[str] = mapped_column(String(40))
    audit_share: Mapped[float] = mapped_column(Float)
    """Share of the images that were in the audit set."""
    pace: Mapped[float] = mapped_column(Float)
    """Share of the audit set in what is served."""
    known: Mapped[int] = mapped_column()
    """Tasks whose images were known, labelled ones too."""
    picks: Mapped[list[int]] = mapped_column(JSON)
    """The tasks that the strategy picked, the first one first."""
    places: Mapped[bytes] = mapped_column(LargeBinary)
    scale: Mapped[dict[str, list[list[float]]]] = mapped_column(JSON)
    """Where a task that comes later has its place: see :mod:`backend.orders`."""

    @property
    def name(self) -> str:
        """What Label Studio calls it."""
        return order_name(self.version, self.number)


class FineTune(Base):
    """One fine-tune of a project's backbone, from the wish for it to what came of it.

    At most one of a project is under way; :mod:`backend.finetunes` names the states.
    """

    __tablename__ = "finetunes"
    __table_args__ = (Index("finetunes_project", "project_id"),)

    id: Mapped[int] = mapped_column(primary_key=True, autoincrement=True)
    project_id: Mapped[int] = mapped_column(ForeignKey("projects.id", ondelete="CASCADE"))
    state: Mapped[str] = mapped_column(String(12))
    asked: Mapped[bool] = mapped_column(default=False)
    """Somebody asked for it; else it was due."""
    cancel: Mapped[bool] = mapped_column(default=False)
    """Somebody asked to give it up."""
    base: Mapped[str] = mapped_column(String(120), default="")
    """Identity of the original backbone that it starts from."""
    labels: Mapped[int] = mapped_column(default=0)
    """How many labels it learns from, those held out not counted."""
    digest: Mapped[str] = mapped_column(String(64), default="")
    """Digest of the labels and the config that it learns from."""
    backbone: Mapped[str] = mapped_column(String(120), default="")
    """Identity of the tuned network, once there is one."""
    version: Mapped[int | None] = mapped_column()
    """The version that came of it."""
    attempts: Mapped[int] = mapped_column(default=0)
    """Failures in a row without a finished epoch between them."""
    reason: Mapped[str] = mapped_column(Text, default="")
    """What came of it, or why it failed last."""
    progress: Mapped[dict[str, Any]] = mapped_column(JSON, default=dict)
    owner: Mapped[str] = mapped_column(String(120), default="")
    """The trainer whose child process learns."""
    request_id: Mapped[str] = mapped_column(String(64), default="")
    """The request that it follows."""
    wanted_at: Mapped[float] = mapped_column(Float)
    started_at: Mapped[float | None] = mapped_column(Float)
    finished_at: Mapped[float | None] = mapped_column(Float)
    retry_at: Mapped[float] = mapped_column(Float, default=0.0)


class Trouble(Base):
    """A step of a project that failed, until it goes well again: see :mod:`backend.troubles`."""

    __tablename__ = "troubles"

    project_id: Mapped[int] = mapped_column(
        ForeignKey("projects.id", ondelete="CASCADE"), primary_key=True
    )
    step: Mapped[str] = mapped_column(String(40), primary_key=True)
    failures: Mapped[int] = mapped_column(default=0)
    """In a row."""
    reason: Mapped[str] = mapped_column(Text)
    mend: Mapped[str] = mapped_column(Text, default="")
    retry_at: Mapped[float] = mapped_column(Float, default=0.0)
    parked_at: Mapped[float | None] = mapped_column(Float)
    """When it was given up; empty while it is tried again soon."""
    mark: Mapped[str] = mapped_column(String(64), default="")
    """Digest of what may mend it: labels, tasks, config and requests."""
    hung: Mapped[bool] = mapped_column(default=False)
    """It did not fail but never ended, so a trainer that starts does not try it at once."""


class Hint(Base):
    """Something may have changed in Label Studio; the reconciler goes and looks."""

    __tablename__ = "hints"
    __table_args__ = (Index("hints_project", "project_id"),)

    id: Mapped[int] = mapped_column(primary_key=True, autoincrement=True)
    project_id: Mapped[int] = mapped_column()
    action: Mapped[str] = mapped_column(String(60))
    task_ids: Mapped[list[int] | None] = mapped_column(JSON(none_as_null=True))
    """The tasks to look at; everything, where it is empty."""
    created_at: Mapped[float] = mapped_column(Float)
    request_id: Mapped[str] = mapped_column(String(64), default="")
    """The request that left it; empty where none did."""


class Lease(Base):
    """Which trainer works on a project."""

    __tablename__ = "leases"

    project_id: Mapped[int] = mapped_column(
        ForeignKey("projects.id", ondelete="CASCADE"), primary_key=True
    )
    owner: Mapped[str] = mapped_column(String(120))
    heartbeat_at: Mapped[float] = mapped_column(Float)


class TrainerProcess(Base):
    """A trainer and its last sign of life."""

    __tablename__ = "trainers"

    owner: Mapped[str] = mapped_column(String(120), primary_key=True)
    heartbeat_at: Mapped[float] = mapped_column(Float)
