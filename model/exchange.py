"""A :class:`model.pipeline.Pipeline` in the formats that other programs read."""

from __future__ import annotations

import tempfile
import warnings
from collections.abc import Sequence
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path

import safetensors.torch
import torch

from model.errors import ArgumentError, PackageError
from model.packages import pip_install
from model.pipeline import Pipeline

INPUT = "images"


def require_onnx() -> None:
    """:class:`PackageError` where the packages that write ONNX are not installed."""
    missing = [name for name in ("onnx", "onnxscript") if find_spec(name) is None]
    if missing:
        raise PackageError(
            f"Writing ONNX needs {' and '.join(missing)}, not installed here.",
            mend=f"Install it: {pip_install(*missing)}",
        )


def can_write_openvino() -> bool:
    """Whether the package that writes OpenVINO's format is installed."""
    return find_spec("openvino") is not None


def to_safetensors(pipeline: Pipeline) -> bytes:
    """The pipeline's weights, float32 where floating.

    ``backbone.…`` has torchvision's names without the classifier, ``heads.<i>.…`` head i.
    """
    state = {name: _plain(value) for name, value in pipeline.state_dict().items()}
    data: bytes = safetensors.torch.save(state)
    return data


def to_onnx(pipeline: Pipeline, side: int, outputs: Sequence[str]) -> bytes:
    """One ONNX file with the weights in it: ``images`` (n, side, side, 3) uint8 with any n.

    ``outputs`` names the probabilities of each head. :class:`PackageError` where the packages
    are missing.
    """
    require_onnx()
    if len(outputs) != len(pipeline.heads) or INPUT in outputs or len({*outputs}) < len(outputs):
        raise ArgumentError(
            f"outputs={list(outputs)!r}; a name of its own for each head is needed."
        )
    # Two images: a batch of one would be taken for a batch that is always one.
    example = torch.zeros((2, side, side, 3), dtype=torch.uint8)
    with warnings.catch_warnings():
        # What the exporter warns of are its own coming changes.
        warnings.simplefilter("ignore")
        program = torch.onnx.export(
            pipeline,
            (example,),
            dynamo=True,
            input_names=[INPUT],
            output_names=list(outputs),
            dynamic_shapes={INPUT: {0: torch.export.Dim("n")}},
            verbose=False,
        )
        assert program is not None
        data: bytes = program.model_proto.SerializeToString()
    return data


def to_openvino(onnx: bytes) -> tuple[bytes, bytes]:
    """An ONNX file → OpenVINO's ``.xml`` and ``.bin``, with weights in float32."""
    openvino = import_module("openvino")
    with tempfile.TemporaryDirectory() as folder:
        source, target = Path(folder) / "model.onnx", Path(folder) / "model.xml"
        source.write_bytes(onnx)
        model = openvino.convert_model(source)
        openvino.save_model(model, target, compress_to_fp16=False)
        return target.read_bytes(), target.with_suffix(".bin").read_bytes()


def _plain(value: torch.Tensor) -> torch.Tensor:
    plain = value.detach().cpu().contiguous()
    return plain.float() if plain.is_floating_point() else plain
