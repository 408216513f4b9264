"""Convert what callers have, tensors or lists, to NumPy arrays."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    from torch import Tensor

Array = npt.NDArray[Any]


def to_array(values: Array | Tensor | Sequence[Any]) -> Array:
    """Convert a tensor on any device, a list or an array to an array.

    Example:
        >>> import torch
        >>> to_array(torch.ones(2, requires_grad=True))
        array([1., 1.], dtype=float32)
    """
    if hasattr(values, "detach"):
        values = values.detach().cpu()
        values = values.float() if values.is_floating_point() and values.itemsize < 4 else values
        array: Array = values.numpy()
        return array
    return np.asarray(values)
