"""Convert a classifier to ONNX, run it in onnxruntime, and compare it with torch."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from lort_hub.backbones.backbone import Backbone, logits_of
from lort_hub.errors import CheckpointError, ConfigError
from lort_hub.serialization import Record

LEAST_OPSET = 18
"""Oldest version of ONNX's operators that torch's exporter writes; asked for an older one, it writes this."""
TOLERANCE = 1e-4
"""Largest difference of logits, relative to the largest logit."""
BATCH_SIZES = (1, 3, 16)
"""Images at a time at which a file's logits are compared with torch's."""
Logits = NDArray[np.float32]


def check_export(opset: int | None = None) -> None:
    """Refuse to start where a package of the extra `onnx` is missing, or the opset is too old for torch.

    Args:
        opset: Version of ONNX's operators; None for that of torch's exporter.

    Raises:
        ConfigError: The message says what to install or give.

    Example:
        >>> check_export(7)
        Traceback (most recent call last):
        lort_hub.errors.ConfigError: `opset` is 7, expected at least 18, the oldest that torch exports.
    """
    if opset is not None and opset < LEAST_OPSET:
        raise ConfigError(
            f"`opset` is {opset}, expected at least {LEAST_OPSET}, the oldest that torch exports."
        )
    try:
        import onnx  # noqa: F401  used by torch's exporter, as onnxscript is
        import onnxruntime  # noqa: F401
        import onnxscript  # noqa: F401
    except ImportError as cause:
        raise ConfigError(
            f"The export needs {cause.name} ({cause}): pip install '.[onnx]' in the clone"
        ) from cause


class _LogitsAlone(nn.Module):
    """A model of either library that returns its logits and nothing else."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, pixel_values: Tensor) -> Tensor:
        return logits_of(self.model(pixel_values))


def export_onnx(backbone: Backbone, path: Path, metadata: dict[str, Any], *, opset: int | None = None) -> int:
    """Write a classifier as an ONNX file, from `pixel_values` (N, 3, H, W) to `logits` (N, K), for any N.

    Args:
        backbone: The classifier.
        path: The file.
        metadata: JSON-ready values to keep in the file's metadata_props, each as JSON.
        opset: Version of ONNX's operators; None for that of torch's exporter.

    Returns:
        The version of the operators.

    Raises:
        CheckpointError: torch cannot export it.

    Example:
        >>> export_onnx(backbone, Path("model.onnx"), {"class_names": ["ant", "bee"]})  # doctest: +SKIP
        20
    """
    from PIL import Image

    image = Image.effect_noise((64, 64), 64).convert("RGB")
    pixels = torch.stack([backbone.transform(image), backbone.transform(image.rotate(90))])
    try:
        with _quiet():
            program = torch.onnx.export(
                _LogitsAlone(backbone.model).eval(),
                (pixels,),
                dynamo=True,
                opset_version=opset,
                input_names=["pixel_values"],
                output_names=["logits"],
                dynamic_shapes={"pixel_values": {0: torch.export.Dim("batch")}},
                verbose=False,
            )
    except Exception as cause:  # whatever a stranger's model makes the exporter raise
        raise CheckpointError(
            f"torch cannot export '{backbone.spec}' to ONNX{f' with opset {opset}' if opset else ''}: "
            f"{type(cause).__name__}: {str(cause).strip().partition(chr(10))[0][:300]}\n"
            "Leave out `opset`, or use another model."
        ) from cause
    assert program is not None  # dynamo's exporter returns one
    program.model.metadata_props.update({name: json.dumps(value) for name, value in metadata.items()})
    program.save(path)
    return int(program.model.opset_imports[""])


@contextmanager
def _quiet() -> Iterator[None]:
    """Leave out what the libraries log below errors: it is about their own code."""
    logging.disable(logging.WARNING)
    try:
        yield
    finally:
        logging.disable(logging.NOTSET)


def quantise_onnx(path: Path, quantised: Path) -> None:
    """Write the int8 version of an ONNX file: weights as 8-bit integers, activations quantised as they come.

    Args:
        path: The file.
        quantised: The file to write.

    Example:
        >>> quantise_onnx(Path("model.onnx"), Path("model_quantized.onnx"))  # doctest: +SKIP
    """
    from onnxruntime.quantization import QuantType, quantize_dynamic

    with _quiet():  # unsigned: onnxruntime has no convolution of signed weights on CPUs
        quantize_dynamic(path, quantised, weight_type=QuantType.QUInt8)


@dataclass(frozen=True)
class OnnxClassifier:
    """An ONNX file in onnxruntime, on the CPU.

    Attributes:
        session: onnxruntime's session.
    """

    session: Any

    @classmethod
    def load(cls, path: Path) -> OnnxClassifier:
        """Load a file, with as many threads as torch has.

        Raises:
            CheckpointError: onnxruntime does not know its operators.
        """
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = torch.get_num_threads()
        options.log_severity_level = 3
        try:
            return cls(onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"]))
        except Exception as cause:  # its errors have no common type
            reason = str(cause).strip().partition("\n")[0][:300]
            raise CheckpointError(
                f"onnxruntime cannot load {path.name}: {reason}\nLeave out `opset`, or update onnxruntime."
            ) from cause

    def logits(self, pixels: Tensor, batch_size: int) -> Logits:
        """Compute the logits (N, K) of pixels (N, 3, H, W), so many at a time."""
        parts = [
            self.session.run(["logits"], {"pixel_values": part.contiguous().numpy()})[0]
            for part in pixels.split(batch_size)
        ]
        return np.concatenate(parts)


@dataclass(frozen=True)
class Difference(Record):
    """How far the logits of an ONNX file are from torch's on some images.

    Attributes:
        largest: Largest absolute difference.
        scale: Largest absolute logit.
    """

    largest: float
    scale: float

    @classmethod
    def of(cls, logits: Logits, expected: Logits) -> Difference:
        """Compare logits (N, K) with the expected ones.

        Example:
            >>> Difference.of(np.array([[0.0, 2.0]]), np.array([[0.0, 4.0]]))
            Difference(largest=2.0, scale=4.0)
        """
        return cls(float(np.abs(logits - expected).max()), float(np.abs(expected).max()))


@torch.inference_mode()
def check_onnx(path: Path, backbone: Backbone, pixels: Tensor) -> Difference:
    """Compare an ONNX file's logits with torch's, at several batch sizes.

    Args:
        path: The file.
        backbone: The classifier that it was made of.
        pixels: Prepared images (N, 3, H, W); fewer than fill a batch are repeated.

    Returns:
        The largest difference.

    Raises:
        CheckpointError: The logits differ by more than 1e-4 of the largest logit.

    Example:
        >>> check_onnx(Path("model.onnx"), backbone, torch.rand(16, 3, 224, 224))  # doctest: +SKIP
        Difference(largest=2.1e-06, scale=3.4)
    """
    model = OnnxClassifier.load(path)
    pixels = pixels.repeat(-(-max(BATCH_SIZES) // len(pixels)), 1, 1, 1)
    expected = backbone.logits(pixels).float().numpy()
    found = max(
        (Difference.of(model.logits(pixels, size), expected) for size in BATCH_SIZES),
        key=lambda difference: difference.largest,
    )
    if not found.largest <= TOLERANCE * found.scale:
        raise CheckpointError(
            f"The ONNX file's logits differ from torch's by {found.largest:.2g} (largest logit "
            f"{found.scale:.3g}), expected at most {TOLERANCE:g} of that.\n"
            "Nothing was written; please report the model as an issue."
        )
    return found
