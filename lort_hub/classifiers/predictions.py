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
        """Fill in the softmax of a batch's logits (n, K), float32, and its errors."""
        if logits is not None:
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


def summarise(tables: Iterable[pa.Table]) -> dict[str, Any]:
    """Count the images of tables of predictions, the broken ones, and those of each likeliest class.

    Example:
        >>> summarise([pa.table({"class_1": ["bee", "bee", None], "error": [None, None, "cut short"]})])
        {'images': 3, 'errors': 1, 'classes': {'bee': 2}}
    """
    images, classes = 0, Counter[str]()
    for table in tables:
        images += table.num_rows
        classes.update(name for name in table["class_1"].to_pylist() if name is not None)
    return {"images": images, "errors": images - classes.total(), "classes": dict(classes.most_common())}
