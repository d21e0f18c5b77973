"""All checks, in the order in which they are done and reported."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from backend.doctor import addresses, backends, images, machine, queue, storage, webhooks
from backend.doctor.examination import Examination
from backend.doctor.findings import Outcome

Look = Callable[[Examination], Outcome]


@dataclass(frozen=True)
class Check:
    """One check: ``why`` says what fails when it fails; ``seconds`` is its time limit.

    It is left out when one of the checks that it ``needs`` has failed.
    """

    name: str
    look: Look
    why: str
    seconds: float = 30.0
    needs: tuple[str, ...] = ()


DATABASE, LABEL_STUDIO = ("database",), ("label-studio", "token")


EVERYWHERE = (
    Check(
        "data-folder",
        machine.data_folder,
        "Secrets, versions and working copies are kept there; server, trainer and commands share "
        "it.",
    ),
    Check("disk", machine.disk, "On a full disk nothing new is learned or kept."),
    Check(
        "secret-files",
        machine.secret_files,
        "Whoever reads them can call the server and Label Studio in Tiebreak's name.",
    ),
    Check("timeouts", machine.timeouts, "Limits that cross cut work off half-way."),
    Check("gpu", machine.processor, "Embedding and fine-tuning are many times slower without.", 60),
    Check("weights", machine.weights, "No image can be embedded without the weights.", 60),
    Check("database", storage.database, "All that is derived from the labels is kept there."),
    Check(
        "database-clock",
        storage.database_time,
        "Times in logs and on the page differ from what happens.",
        needs=DATABASE,
    ),
    Check("bucket", storage.bucket, "Machines share versions and working copies through it.", 60),
    Check(
        "trainer",
        storage.trainer,
        "Nothing is learned and no queue is ordered without one.",
        needs=DATABASE,
    ),
    Check("label-studio", addresses.label_studio, "All tasks and labels come from there."),
    Check(
        "token",
        addresses.token,
        "Label Studio shows tasks and labels only to a token.",
        needs=("label-studio",),
    ),
    Check(
        "clock",
        addresses.label_studio_time,
        "Signed addresses of images and tokens hold for minutes only.",
        needs=("label-studio",),
    ),
    Check(
        "backend-address",
        addresses.backend_address,
        "Label Studio calls the backend at it, and sends its webhooks there.",
    ),
    Check("server", addresses.server, "Label Studio connects to it, and gets predictions from it."),
)
"""About the set-up as a whole."""

OF_A_PROJECT = (
    Check("project", backends.project, "Tiebreak reads its tasks and sets its order."),
    Check("label-config", queue.label_config, "It says what there is to learn."),
    Check(
        "backend",
        backends.backend,
        "Label Studio gets predictions for new tasks from it, and starts trainings there.",
        60,
    ),
    Check(
        "stale-backends",
        backends.stale_backends,
        "Label Studio waits for each of them whenever it lists them.",
        60,
    ),
    Check(
        "webhook",
        webhooks.webhook,
        "Without one, labels are noticed only by the periodic look.",
    ),
    Check(
        "delivery",
        webhooks.delivery,
        "Without webhooks, labels are noticed only by the periodic look.",
    ),
    Check(
        "stale-webhooks",
        webhooks.stale_webhooks,
        "Label Studio waits up to a second for each while an annotator submits, and gives the "
        "secret to whoever has the address now.",
    ),
    Check("sampling", queue.sampling, "Else images come in no useful order."),
    Check(
        "model-version",
        queue.model_version,
        "Label Studio orders by predictions of one version; by any other the order is random.",
    ),
    Check("queue-settings", queue.queue_order, "They put other images before the queue."),
    Check("troubles", queue.troubles, "What failed waits, and what needs it waits with it."),
    Check("images", images.images, "An image that cannot be had is never learned from.", 90),
)
"""About one project."""
