"""Tasks and predictions as they are sent to Label Studio."""

from __future__ import annotations

from typing import Any

Json = dict[str, Any]


def images(count: int) -> list[Json]:
    return [{"data": {"image": f"http://127.0.0.1:1/{i}.png"}} for i in range(count)]


def prediction(task: int, version: str, score: float = 0.5, choice: str = "cat") -> Json:
    result = {
        "from_name": "label",
        "to_name": "image",
        "type": "choices",
        "score": 0.7,
        "value": {"choices": [choice]},
    }
    return {"task": task, "model_version": version, "score": score, "result": [result]}
