"""The settings of the trainer's rhythm, and of what it measures."""

from __future__ import annotations

from pydantic import BaseModel, Field


class RhythmSettings(BaseModel):
    """When the trainer does what, what it demands of a version, and how long it may take."""

    min_new_labels: int = Field(10, ge=1, description="Changed labels that start a retraining")
    quiet_seconds: float = Field(
        0.5, ge=0, description="Quiet after the last submit before a retraining starts"
    )
    max_wait_seconds: float = Field(
        5.0, ge=0, description="Longest wait for that quiet while people keep submitting"
    )
    idle_train_seconds: float = Field(
        300.0, ge=0, description="Fewer changed labels than that are learned after this long"
    )
    poll_seconds: float = Field(
        60.0, gt=0, description="Seconds between two full looks at Label Studio"
    )
    queue_head: int = Field(
        200, ge=1, description="Predictions pushed first, before the rest of the pool"
    )
    audit_share: float = Field(
        0.1, ge=0, le=0.5, description="Share of images in the audit set, which is never trained on"
    )
    audit_half_width: float = Field(
        0.03,
        gt=0,
        le=1,
        description="Half-width of the accuracy's interval that slows the audit set down",
    )
    check_share: float = Field(
        0.05,
        ge=0,
        le=1,
        description="Share of images sure enough to be accepted that people label as a check",
    )
    blind_share: float = Field(
        0.05,
        ge=0,
        le=1,
        description="Share of the queue's images that people see without a ticked choice",
    )
    gate_margin: float = Field(
        0.02, ge=0, le=1, description="Accuracy a challenger may lose on the audit set and be kept"
    )
    target_accuracy: float = Field(
        0.95, gt=0, lt=1, description="Accuracy that the labels still needed are forecast for"
    )
    stop_gain: float = Field(
        0.5,
        ge=0,
        le=100,
        description="Points of accuracy for 100 labels below which labelling more hardly pays",
    )
    keep_versions: int = Field(
        10, ge=1, description="Newest versions that `tiebreak versions --prune` leaves on disk"
    )
    lease_seconds: float = Field(
        30.0, gt=0, description="A trainer silent for this long loses its project to another"
    )
    step_seconds: float = Field(
        600.0, gt=0, description="A trainer whose step shows no progress for this long is replaced"
    )
    long_step_seconds: float = Field(
        3600.0,
        gt=0,
        description="The same for steps that compute over a whole project, such as a training",
    )
    stop_seconds: float = Field(
        20.0, gt=0, description="Longest that a trainer goes on with its step when told to stop"
    )
