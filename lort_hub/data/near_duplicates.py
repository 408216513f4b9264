"""Find pictures that are the same but for their file: encoded again, resized, mirrored, cropped a little.

The nearest few pictures by the coarse content of their grey prints are laid onto each other by a small shift
and stretch, and then their edges are compared: distinct pictures of one kind have the same coarse content,
but not the same edges. docs/data.md has what is found and what is missed.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.fft import dctn
from torch import Tensor
from torch.nn.functional import affine_grid, avg_pool2d, grid_sample, normalize

SAME = 0.85
"""Least correlation of the edges of two pictures that are the same."""
NEAR, ALIKE = 0.75, 0.8
"""Least correlation of two pictures' coarse content as they are, and laid onto each other, to go on."""
COARSE, FREQUENCIES = 16, 8
CANDIDATES = 5
"""Nearest pictures that each one is compared with."""
MOST_STRETCH = 0.12
BLOCK_NUMBERS = 2**25
PAIRS = 512


class NearDuplicate(NamedTuple):
    """Two pictures that are the same but for their file.

    Attributes:
        first: Position of one.
        second: Position of the other, which is greater.
        similarity: Correlation of their edges, at most 1.
        mirrored: Whether one is the mirror image of the other.
    """

    first: int
    second: int
    similarity: float
    mirrored: bool


def find_near_duplicates(
    prints: NDArray[np.uint8], contents: NDArray[np.int64] | None = None
) -> list[NearDuplicate]:
    """Find pairs of pictures that are the same but for their file, the most similar first.

    Args:
        prints: Grey prints (N, 64, 64); one of a single grey, as of tiny pictures, has no like.
        contents: Numbers (N,), the same for images of the same bytes, of which the first one is compared.

    Returns:
        The pairs; of each picture with the nearest five, and with the nearest five mirrored.

    Example:
        >>> pictures = np.random.default_rng(0).integers(0, 256, (3, 64, 64), dtype=np.uint8)
        >>> pictures[2] = pictures[0, :, ::-1]
        >>> find_near_duplicates(pictures)
        [NearDuplicate(first=0, second=2, similarity=1.0, mirrored=True)]
    """
    shown = np.flatnonzero(np.ptp(prints, axis=(1, 2)) > 0)
    if contents is not None:
        shown = shown[np.isin(shown, np.unique(contents, return_index=True)[1])]
    content = _coarse_content(prints[shown])
    sign = torch.tensor([1.0, -1.0]).repeat(FREQUENCIES * FREQUENCIES // 2)  # of the mirror image
    found = dict[tuple[int, int], NearDuplicate]()
    for mirrored, other in ((False, content), (True, content * sign)):
        pairs = shown[_nearest_pairs(content, other)]
        for start in range(0, len(pairs), PAIRS):
            first, second = pairs[start : start + PAIRS].T
            similarity = compare(prints[first, :, ::-1] if mirrored else prints[first], prints[second])
            for at in np.flatnonzero(similarity >= SAME):
                key = int(first[at]), int(second[at])
                one = NearDuplicate(*key, round(float(similarity[at]), 4), mirrored)
                found[key] = max(found.get(key, one), one, key=lambda pair: pair.similarity)
    return sorted(found.values(), key=lambda pair: (-pair.similarity, pair))


def count_images(pairs: Sequence[NearDuplicate]) -> int:
    """Count the pictures that are in any pair.

    Example:
        >>> count_images([NearDuplicate(0, 1, 1.0, False), NearDuplicate(1, 2, 1.0, False)])
        3
    """
    return len({at for pair in pairs for at in pair[:2]})


def _coarse_content(prints: NDArray[np.uint8]) -> Tensor:
    """The lowest frequencies (N, 64) but for the mean, of length one."""
    content = torch.empty(len(prints), FREQUENCIES * FREQUENCIES)
    for rows in torch.arange(len(prints)).split(4096):
        small = _shrunk(torch.from_numpy(prints[rows.numpy()]).float(), 2 * COARSE)
        waves = dctn(small.numpy(), axes=(1, 2), norm="ortho")[:, :FREQUENCIES, :FREQUENCIES]
        content[rows] = torch.from_numpy(np.ascontiguousarray(waves)).flatten(1)
    content[:, 0] = 0
    return normalize(content)


def _nearest_pairs(content: Tensor, other: Tensor) -> NDArray[np.int64]:
    """Pairs (M, 2), the lesser first, of pictures with the nearest few by their content (N, F)."""
    number, near = len(content), max(min(CANDIDATES, len(content) - 1), 0)
    pairs = [torch.empty(0, 2, dtype=torch.int64)]
    for rows in torch.arange(number).split(max(1, BLOCK_NUMBERS // max(number, 1))):
        similarity = content[rows] @ other.T
        similarity[torch.arange(len(rows)), rows] = -1
        correlation, nearest = similarity.topk(near, dim=1)
        both = torch.stack([rows[:, None].expand_as(nearest), nearest], dim=2)
        pairs.append(both[correlation > NEAR])
    unique: NDArray[np.int64] = torch.cat(pairs).sort(dim=1).values.unique(dim=0).numpy()
    return unique


def compare(prints: NDArray[np.uint8], others: NDArray[np.uint8]) -> NDArray[np.float64]:
    """Compute how similar pairs of pictures are once they are laid onto each other.

    Args:
        prints: Grey prints (M, 64, 64) of one picture of each pair.
        others: Those of the other one.

    Returns:
        Correlation (M,) of their edges; 0 where their coarse content differs.

    Example:
        >>> picture = np.random.default_rng(0).integers(0, 256, (1, 64, 64), dtype=np.uint8)
        >>> compare(picture, picture // 2 + 20).round(2), compare(picture, picture.swapaxes(1, 2))
        (array([1.]), array([0.]))
    """
    moving, still = torch.from_numpy(prints.copy()).float(), torch.from_numpy(others.copy()).float()
    placed, similarity = torch.zeros(len(moving), 4), torch.zeros(len(moving))
    for size in (COARSE, COARSE):
        placed = _placed(_shrunk(moving, size), _shrunk(still, size), placed)
    coarse = [_laid(_shrunk(moving, COARSE), placed), _shrunk(still, COARSE)]
    centred = (one - one.mean(dim=(1, 2), keepdim=True) for one in coarse)
    alike = (_correlation(*centred) > ALIKE).nonzero().flatten()
    if not len(alike):
        return similarity.double().numpy()
    moving, still, placed = moving[alike], still[alike], placed[alike]
    for size in (2 * COARSE, 2 * COARSE, 4 * COARSE):
        placed = _placed(_shrunk(moving, size), _shrunk(still, size), placed)
    similarity[alike] = _correlation(_edges(_laid(moving, placed)), _edges(still))
    return similarity.double().numpy()


def _shrunk(pictures: Tensor, size: int) -> Tensor:
    return avg_pool2d(pictures[:, None], pictures.shape[-1] // size)[:, 0]


def _laid(pictures: Tensor, placed: Tensor) -> Tensor:
    """Pictures (M, S, S), each stretched and shifted along x and y by its (M, 4)."""
    stretch_x, shift_x, stretch_y, shift_y = placed.T
    none = torch.zeros_like(shift_x)
    rows = [torch.stack([1 + stretch_x, none, shift_x], 1), torch.stack([none, 1 + stretch_y, shift_y], 1)]
    grid = affine_grid(torch.stack(rows, 1), [len(pictures), 1, *pictures.shape[1:]], align_corners=False)
    return grid_sample(pictures[:, None], grid, align_corners=False, padding_mode="border")[:, 0]


def _placed(moving: Tensor, still: Tensor, placed: Tensor) -> Tensor:
    """The stretch and shift (M, 4) after one Gauss-Newton step; brightness and contrast are free."""
    size = moving.shape[-1]
    laid = _laid(moving, placed)
    along_y, along_x = (size / 2 * slope for slope in torch.gradient(laid, dim=(1, 2)))
    at = (2 * torch.arange(size) + 1) / size - 1
    x, y = at[None, None, :], at[None, :, None]
    causes = [laid, torch.ones_like(laid), along_x * x, along_x, along_y * y, along_y]
    regressors = torch.stack(causes, dim=3).flatten(1, 2)
    gram = regressors.mT @ regressors
    gram = gram + torch.diag_embed(1e-3 * gram.diagonal(dim1=1, dim2=2) + 1e-6)
    solved = torch.linalg.solve(gram, regressors.mT @ still.flatten(1)[..., None])[..., 0]
    contrast = torch.where(solved[:, :1].abs() < 0.2, 1, solved[:, :1])
    step: Tensor = (solved[:, 2:] / contrast).clamp(-MOST_STRETCH / 2, MOST_STRETCH / 2)
    return (placed + step).clamp(-MOST_STRETCH, MOST_STRETCH)


def _edges(pictures: Tensor) -> Tensor:
    """Slopes along y and x, without the margin that a shift fills."""
    margin = pictures.shape[-1] // COARSE
    inner = pictures[:, margin:-margin, margin:-margin]
    return torch.cat(torch.gradient(inner, dim=(1, 2)), dim=1)


def _correlation(one: Tensor, other: Tensor) -> Tensor:
    return (normalize(one.flatten(1)) * normalize(other.flatten(1))).sum(dim=1)
