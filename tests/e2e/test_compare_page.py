"""The page of ``tiebreak compare`` in a real Chromium, with no network to ask."""

from __future__ import annotations

from pathlib import Path

from playwright.sync_api import Browser, expect

from backend.compare_page import PageText, comparison_page
from backend.experiment_page import write_page
from tests.e2e.experiment_pages import draw, on_every_screen

TEXT = PageText("Networks compared on <pets>", "500 labels, seed 0", "2 cores of a machine")


def measure(value: float | None, spread: float) -> dict[str, float | int | None]:
    if value is None:
        return {"value": None, "low": None, "high": None, "n": 9}
    return {"value": value, "low": value - spread, "high": value + spread, "n": 900}


def row(backbone: str, mode: str, accuracy: float, ece: float | None) -> dict[str, object]:
    tuned = mode in ("finetune", "scratch")
    return {
        "key": f"{backbone} {mode}",
        "backbone": backbone,
        "mode": mode,
        "input_size": 128,
        "labels": 500,
        "test": 900,
        "metrics": {
            "accuracy": measure(accuracy, 0.02),
            "macro_f1": measure(accuracy - 0.01, 0.02),
            "roc_auc": measure(0.97, 0.005),
            "log_loss": measure(1.4 - accuracy, 0.05),
            "ece": measure(ece, 0.01),
        },
        "parameters": 2_236_682,
        "trainable": 2_236_682 if tuned else 12_810,
        "epochs": 12 if tuned else 1,
        "best_epoch": 9 if tuned else None,
        "seconds": 300.0 if tuned else 12.0,
        "seconds_per_epoch": 25.0 if tuned else 12.0,
        "peak_bytes": 1_234_567_890,
        "augmentation": "photos" if tuned else "none",
        "error": "",
        "mend": "",
    }


ROWS = [
    row("mobilenet_v2", "features", 0.80, 0.02),
    row("mobilenet_v2", "finetune", 0.86, None),
    row("small_cnn", "scratch", 0.60, 0.04),
    {
        "backbone": "resnet18",
        "mode": "features",
        "input_size": 128,
        "error": "No pretrained weights for resnet18.",
        "mend": "Put them there.",
    },
]


@on_every_screen
def test_the_page_draws_without_asking_anybody(
    chromium: Browser, tmp_path: Path, scheme: str, width: int
) -> None:
    write_page(tmp_path / "page.html", comparison_page(TEXT, ROWS))
    page = draw(chromium, tmp_path / "page.html", scheme, width, plots=4)
    expect(page.locator("h1")).to_have_text(TEXT.title)
    expect(page.locator(".best")).to_contain_text("mobilenet_v2 with finetune is right about 86.0")
    names = page.locator("tbody tr td:first-child").all_inner_texts()
    assert [name.split()[0] for name in names] == [
        "mobilenet_v2",
        "mobilenet_v2",
        "small_cnn",
        "resnet18",
    ]
    expect(page.locator("td.failed")).to_contain_text("Put them there.")
    colour = page.evaluate("getComputedStyle(document.querySelector('#plot-accuracy text')).fill")
    assert (colour == "rgb(230, 234, 240)") == (scheme == "dark")
    page.context.close()
