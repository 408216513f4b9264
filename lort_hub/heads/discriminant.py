"""Fit the empirical-Bayes discriminant: class means shrunk along each direction as far as they are noise.

Derived in docs/method.md. It needs the class sums and one covariance matrix of the features, so it streams,
adds up over processes, and costs one eigen-decomposition.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from lort_hub.features.matrix import BLOCK
from lort_hub.heads.solvers.eigenbasis import Eigenbasis, eigenbasis

TINY = 1e-300


@dataclass(frozen=True)
class Discriminant:
    """Gaussian classes with one covariance, their means drawn from a Gaussian with the same eigenvectors.

    Attributes:
        class_counts: Samples n_k of each class (K,), float64.
        basis: Eigenvectors and eigenvalues (D,) of the within-class covariance, about the mean of the class
            means (D,).
        offsets: Class means (K, D) in the basis, float64.
        freedom: Degrees of freedom of the within-class covariance: samples less classes.
        rank: Most directions that samples vary along within classes; views of an image are samples here.
        unit: Mean variance within classes over all directions; that of all samples where no class has two.
        sphericity: Share in (0, 1] of its mean that each variance, within and between classes, is drawn to.
        width: Directions that means are taken over: D, or more where features were reduced.
    """

    class_counts: Tensor
    basis: Eigenbasis
    offsets: Tensor
    freedom: int
    rank: int
    unit: float
    sphericity: float
    width: int

    @classmethod
    def estimate(
        cls,
        sums: Tensor,
        mean: Tensor,
        covariance: Tensor,
        *,
        sphericity: float,
        class_counts: Tensor | None = None,
        width: int | None = None,
    ) -> Discriminant:
        """Estimate the model from sums over the samples.

        Args:
            sums: Sums (K, D + 1) of [x, 1] over each class's samples, float64. A class without samples is
                taken to be at the mean of the others.
            mean: Mean (D,) of all samples.
            covariance: Covariance (D, D) of all samples about it, divided by their number.
            sphericity: Share in (0, 1] of its mean that each variance is drawn to.
            class_counts: Counts (K,) that the shrinkage goes by; None for those of the sums.
            width: Directions that means are taken over, with no variance along those beyond D; None for D.

        Raises:
            FeatureError: The covariance is not finite.

        Example:
            >>> x = torch.tensor([[0.0], [2.0], [7.0], [9.0]], dtype=torch.float64)
            >>> sums = torch.tensor([[2.0, 2.0], [16.0, 2.0]], dtype=torch.float64)
            >>> model = Discriminant.estimate(sums, x.mean(0), x.T.cov(correction=0).view(1, 1), sphericity=1)
            >>> found = model.basis.mean, model.within, model.between
            >>> [round(float(value), 9) for value in found]  # 49 / 2 - 2 / 2
            [4.5, 2.0, 23.5]
        """
        counts = sums[:, -1]
        present = counts > 0
        means = sums[:, :-1] / counts.clamp_min(1)[:, None]
        apart = (means - mean) * counts.sqrt()[:, None]
        known = counts if class_counts is None else class_counts.to(counts)
        # Views of one image are no samples of their own.
        freedom = round(float(known.sum())) - int(present.sum())
        scatter = counts.sum() * covariance.double() - apart.T @ apart
        scatter *= known.sum() / counts.sum()
        basis = eigenbasis(means[present].mean(dim=0), scatter / freedom if freedom else 0 * scatter)
        offsets = torch.where(present[:, None], (means - basis.mean) @ basis.vectors, 0)
        width = width or len(mean)
        unit = float((basis.values if freedom else covariance.diagonal()).sum()) / width
        rank = round(float(counts.sum())) - int(present.sum())
        return cls(known, basis, offsets, freedom, rank, unit, sphericity, width)

    @property
    def within(self) -> Tensor:
        """Variance e (D,) within classes along each eigenvector."""
        return self._within(self.basis.values)

    @property
    def between(self) -> Tensor:
        """Variance beta (D,) of the true class means along each eigenvector."""
        return self._between(self._spread, self.basis.values, self._noise)

    def _within(self, values: Tensor) -> Tensor:
        return ((1 - self.sphericity) * values + self.sphericity * self.unit).clamp_min(TINY)

    def _between(self, spread: Tensor, values: Tensor, noise: Tensor) -> Tensor:
        raw = spread - values * noise
        mean = raw.sum(dim=-1, keepdim=True) / self.width
        # Eigenvectors without variance within classes are any of their space: all get the mean of theirs.
        any_vectors = max(raw.shape[-1] - self.rank, 0)
        beyond = any_vectors + self.width - raw.shape[-1]
        alike = raw[..., :any_vectors].sum(dim=-1, keepdim=True) / max(beyond, 1)
        raw = torch.cat([alike.expand_as(raw[..., :any_vectors]), raw[..., any_vectors:]], dim=-1)
        return ((1 - self.sphericity) * raw + self.sphericity * mean).clamp_min(0)

    @property
    def _spread(self) -> Tensor:
        """Variance (D,) of the class means along each eigenvector, noise included."""
        return self.offsets.square().sum(dim=0) / self._others

    @property
    def _noise(self) -> Tensor:
        """Mean of 1 / n_k: the part of the variance within classes that is noise in their means."""
        return (1 / self.class_counts[self.class_counts > 0]).mean()

    @property
    def _others(self) -> int:
        """Classes with samples, less one."""
        return max(int((self.class_counts > 0).sum()) - 1, 1)

    def head(self) -> tuple[Tensor, Tensor]:
        """Compute the linear head (K, D), (K,) that ranks the classes by their likelihood, float64.

        Example:
            >>> sums = torch.tensor([[-2.0, 2.0], [2.0, 2.0]], dtype=torch.float64)
            >>> one = torch.ones(1, dtype=torch.float64)
            >>> weight, bias = Discriminant.estimate(sums, 0 * one, 2 * one[:, None], sphericity=0.5).head()
            >>> weight.flatten().round(decimals=6).tolist()  # means -1 and 1, shrunk by one half, over 2
            [-0.25, 0.25]
        """
        means = _shrunk(self.offsets, self.between, self.within, self.class_counts[:, None])
        weight = means / self.within
        return self.basis.unrotate(weight, -0.5 * (weight * means).sum(dim=1))

    def leave_one_out(self, x: Tensor, labels: Tensor) -> Tensor:
        """Predict training samples by the discriminant fitted without the sample itself.

        Exact for the sample's share in its class (mean, count, and the variances that shrink the mean) and
        in the covariance that is inverted. The eigenvectors, the mean of the class means, the mean eigenvalue
        and the means of the other classes stay those of all samples: docs/method.md says how little that is.

        Args:
            x: Features (M, D) of some or all training samples, from `Eigenbasis.rotate`.
            labels: Their labels (M,).

        Returns:
            Logits (M, K), in the type of the features.

        Example:
            >>> x = torch.tensor([[0.0], [2.0], [7.0], [9.0]], dtype=torch.float64)
            >>> sums = torch.tensor([[2.0, 2.0], [16.0, 2.0]], dtype=torch.float64)
            >>> model = Discriminant.estimate(sums, x.mean(0), x.T.cov(correction=0).view(1, 1), sphericity=1)
            >>> model.leave_one_out(x - 4.5, torch.tensor([0, 0, 1, 1])).argmax(dim=1)
            tensor([0, 0, 1, 1])
        """
        logits = x.new_empty(len(labels), len(self.offsets))
        means = _shrunk(self.offsets, self.between, self.within, self.class_counts[:, None])
        alone = self.class_counts[labels] <= 1  # the only sample of a class takes no degree of freedom along
        for rows, freedom in ((~alone, self.freedom - 1), (alone, self.freedom)):
            for at in rows.nonzero().flatten().split(BLOCK):
                logits[at] = self._without_each(x[at], labels[at], means, max(freedom, 1)).to(x)
        return logits

    def _without_each(self, x: Tensor, labels: Tensor, means: Tensor, freedom: int) -> Tensor:
        """Compute logits (M, K), float64, of samples without each of which this freedom is left."""
        grown = self.freedom / freedom
        counts, offsets = self.class_counts[labels][:, None], self.offsets[labels]
        left = (counts - 1).clamp_min(1)
        deviation = x.double() - offsets
        # Without the sample the scatter is less by n / (n - 1) times its squared deviation ...
        share = torch.where(counts > 1, counts / left, 0) / freedom
        values = (grown * self.basis.values - share * deviation.square()).clamp_min(0)
        own = torch.where(counts > 1, offsets - deviation / left, 0)
        spread = self._spread + (own.square() - offsets.square()) / self._others
        noise = self._noise + (1 / left - 1 / counts) / (self._others + 1)
        own = _shrunk(own, self._between(spread, values, noise), self._within(values), counts - 1)
        # ... and its inverse more, by Sherman and Morrison.
        inverse = 1 / self._within(grown * self.basis.values)
        share = (1 - self.sphericity) * share
        along = deviation * inverse
        gain = share / (1 - share * (along * deviation).sum(dim=1, keepdim=True)).clamp_min(1e-9)
        of_sample = (along * x).sum(dim=1, keepdim=True)

        def logits(linear: Tensor, square: Tensor, projected: Tensor) -> Tensor:
            return linear - square / 2 + gain * projected * (of_sample - projected / 2)

        def times(left: Tensor, right: Tensor) -> Tensor:
            return (left.to(x) @ right.to(x).T).double()

        of_all = logits(times(x, means * inverse), means.square() @ inverse, times(along, means))
        linear, square, projected = (
            (own * other).sum(dim=1, keepdim=True) for other in (x * inverse, own * inverse, along)
        )
        return of_all.scatter(1, labels[:, None], logits(linear, square, projected))


def _shrunk(offsets: Tensor, between: Tensor, within: Tensor, counts: Tensor) -> Tensor:
    """Shrink class means (M, D) over so many samples (M, 1): all of a mean where there are none."""
    shrinkage = between / (between + within / counts.clamp_min(TINY)).clamp_min(TINY)
    return torch.where(counts > 0, shrinkage * offsets, 0)
