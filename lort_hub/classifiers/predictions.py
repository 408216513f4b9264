"""Define a table of predictions: the likeliest classes of each image, or why it cannot be decoded."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
from torch import Tensor

from lort_hub.data.image_loader import ImageBatch
from lort_hub.errors import FeatureError


def distinct_names(class_names: Sequence[str]) -> tuple[str, ...]:
    """Number the classes that share a name, as ImageNet's two cranes do, so that names tell them apart.

    Example:
        >>> distinct_names(["crane", "ant", "crane"])
        ('crane (0)', 'ant', 'crane (2)')
    """
    counts = Counter(class_names)
    return tuple(name if counts[name] == 1 else f"{name} ({k})" for k, name in enumerate(class_names))


@dataclass
class Predictions:
    """The likeliest classes of n images, of which some may be broken.

    Attributes:
        rows: Positions (n,) of the images.
        classes: Class numbers (n, k), the likeliest first; -1 of a broken image.
        probabilities: Their probabilities (n, k).
        errors: Why each image cannot be decoded; None where it can.
    """

    rows: range
    classes: np.ndarray[tuple[int, int], np.dtype[np.int64]]
    probabilities: np.ndarray[tuple[int, int], np.dtype[np.float32]]
    errors: list[str | None]

    @classmethod
    def empty(cls, rows: range, top_k: int) -> Predictions:
        """Make room for the predictions of these rows, to be filled batch by batch."""
        shape = (len(rows), top_k)
        return cls(rows, np.full(shape, -1), np.zeros(shape, np.float32), [None] * len(rows))

    def fill(self, batch: ImageBatch, logits: Tensor | None) -> None:
        """Fill in the softmax of a batch's logits (n, K), float32, and its errors.

        Raises:
            FeatureError: A logit is not finite.
        """
        if logits is not None:
            if not logits.isfinite().all():
                first = batch.rows[int((~logits.isfinite().all(dim=1)).nonzero()[0])]
                raise FeatureError(
                    f"The model gives NaN or infinite logits, first for image {first}.\n"
                    'Expected finite numbers: check its weights, or use `mixed_precision="no"`.'
                )
            top = logits.topk(self.classes.shape[1])
            at = np.array(batch.rows) - self.rows.start
            self.classes[at] = top.indices.numpy()
            self.probabilities[at] = logits.softmax(1).gather(1, top.indices).numpy()
        for row, error in batch.errors:
            self.errors[row - self.rows.start] = error.reason

    def table(self, class_names: Sequence[str], files: Sequence[str | None], *, numbered: bool) -> pa.Table:
        """Convert them to a table: file, class_1, probability_1, class_2, ..., error.

        Args:
            class_names: Names of the K classes.
            files: The file of each image, or the name beside its bytes; None where there is none.
            numbered: Whether a column `row` comes first, for the images of a table.
        """
        names, broken = np.array(class_names, object), self.classes[:, 0] < 0
        columns: dict[str, pa.Array] = {"row": pa.array(self.rows, pa.int64())} if numbered else {}
        columns["file"] = pa.array(files, pa.string())
        for k in range(self.classes.shape[1]):
            columns[f"class_{k + 1}"] = pa.array(names[self.classes[:, k]], pa.string(), mask=broken)
            columns[f"probability_{k + 1}"] = pa.array(self.probabilities[:, k], pa.float32(), mask=broken)
        columns["error"] = pa.array(self.errors, pa.string())
        return pa.table(columns)


def summarise(tables: Iterable[pa.Table], min_confidence: float = 0.0) -> dict[str, Any]:
    """Count images in tables of predictions: all, the broken, the unsure, and those of each class.

    Args:
        tables: The tables.
        min_confidence: Probability below which an image is unsure.

    Example:
        >>> columns = {"class_1": ["bee", "bee", None], "probability_1": [0.9, 0.4, None]}
        >>> summarise([pa.table(columns)], 0.5)
        {'images': 3, 'errors': 1, 'unsure': 1, 'classes': {'bee': 2}}
    """
    images, unsure, classes = 0, 0, Counter[str]()
    for table in tables:
        images += table.num_rows
        unsure += sum(p is not None and p < min_confidence for p in table["probability_1"].to_pylist())
        classes.update(name for name in table["class_1"].to_pylist() if name is not None)
    errors = images - classes.total()
    return {"images": images, "errors": errors, "unsure": unsure, "classes": dict(classes.most_common())}
