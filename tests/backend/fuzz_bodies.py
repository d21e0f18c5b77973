"""Strategies for the bodies that a fuzzer sends."""

from __future__ import annotations

import json
from typing import Any

from hypothesis import strategies as st

from tests.backend.real_server import data_uri

CONFIG = (
    '<View><Image name="image" value="$image"/><Choices name="label" toName="image">'
    '<Choice value="cat"/><Choice value="dog"/><Choice value="owl"/></Choices></View>'
)


def json_values() -> st.SearchStrategy[Any]:
    """Anything that JSON can hold, numbers that no database keeps among it."""
    leaves = (
        st.none()
        | st.booleans()
        | st.integers()
        | st.sampled_from([2**31, 2**63, -1, 10**40])
        | st.floats(allow_nan=True)
        | st.text(max_size=20)
    )
    return st.recursive(
        leaves,
        lambda inner: (
            st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4)
        ),
        max_leaves=12,
    )


def addresses(forbidden: str) -> st.SearchStrategy[str]:
    """Addresses of images: kept ones, pictures in themselves, and such as must not be followed,
    ``forbidden`` among them."""
    colours = st.tuples(*[st.integers(0, 255)] * 3)
    return st.one_of(
        st.integers(1, 6).map(lambda task: f"/data/{task}.png"),
        colours.map(data_uri),
        st.text(max_size=40).map(lambda text: f"data:{text}"),
        st.sampled_from(
            [
                forbidden,
                "http://169.254.169.254/latest/meta-data",
                "http://[::1]:1/",
                "http://0x7f000001/",
                "file:///etc/passwd",
                "s3://bucket/key",
                "/data/../../etc/passwd",
                "/data/local-files/?d=../x",
                "http://user:planted@127.0.0.1/",
                "//127.0.0.1/x",
                "http://127.0.0.1:99999/",
                "http://[",
            ]
        ),
        st.text(max_size=30),
    )


def predict_bodies(forbidden: str) -> st.SearchStrategy[bytes]:
    """Bodies of ``/predict``, most of them nearly right."""
    numbers = st.integers(0, 8) | json_values()
    data = st.dictionaries(
        st.just("image") | st.text(max_size=5), addresses(forbidden) | json_values()
    )
    task = st.fixed_dictionaries({"data": data | json_values()}, optional={"id": numbers})
    body = st.fixed_dictionaries(
        {
            "tasks": st.lists(task, max_size=6) | json_values(),
            "project": st.sampled_from(["1.17", "1", "2.5", "9" * 10, "0"]) | json_values(),
        },
        optional={
            "label_config": st.sampled_from([CONFIG, "<View/>", "<", "<a>" * 500, ""])
            | json_values(),
            "params": json_values(),
        },
    )
    return as_bytes(body | json_values())


def webhook_bodies() -> st.SearchStrategy[bytes]:
    """Bodies of ``/webhook``, most of them nearly right."""
    actions = st.sampled_from(
        ["ANNOTATION_CREATED", "START_TRAINING", "PROJECT_UPDATED", "TASKS_DELETED", "\0", "x" * 61]
    )
    numbered = st.fixed_dictionaries(
        {"id": st.integers(0, 9) | json_values()}, optional={"task": st.integers() | json_values()}
    )
    several = st.lists(numbered, max_size=4) | numbered | json_values()
    project = st.fixed_dictionaries(
        {"id": st.integers(0, 3) | json_values()},
        optional={
            "title": st.text(max_size=10) | json_values(),
            "label_config": st.sampled_from([CONFIG, "<", "\0"]) | json_values(),
        },
    )
    body = st.fixed_dictionaries(
        {"action": actions | json_values(), "project": project | json_values()},
        optional=dict.fromkeys(("task", "tasks", "annotation", "annotations", "more"), several),
    )
    return as_bytes(body | json_values())


def as_bytes(values: st.SearchStrategy[Any]) -> st.SearchStrategy[bytes]:
    """Values as JSON, some of it in another encoding, cut off or with bytes put in."""

    def encoded(value: Any, ascii_: bool, encoding: str, cut: int, extra: bytes) -> bytes:
        text = json.dumps(value, ensure_ascii=ascii_)
        data = text.encode(encoding, "surrogatepass")
        return data[: len(data) - cut] + extra if cut else data + extra

    plain = st.builds(lambda value: json.dumps(value).encode(), values)
    odd = st.builds(
        encoded,
        values,
        st.booleans(),
        st.sampled_from(["utf-8", "utf-16", "utf-32", "utf-7"]),
        st.sampled_from([0, 0, 1, 5]),
        st.sampled_from([b"", b"\0", b"}", b"\xff", b"[" * 3000]),
    )
    deep = st.integers(10, 100_000).map(lambda depth: b"[" * depth + b"]" * depth)
    return st.one_of(*[plain] * 6, odd, st.binary(max_size=60), deep)
