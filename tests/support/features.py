"""Random features and labels to fit heads on."""

import torch

from lort_hub.heads.training_set import TrainingSet


def clusters(seed=0, counts=(60, 20, 6), dim=8, noise=1.0):
    generator = torch.Generator().manual_seed(seed)
    labels = torch.repeat_interleave(torch.arange(len(counts)), torch.tensor(counts))
    centres = 1.5 * torch.randn(len(counts), dim, generator=generator)
    x = centres[labels] + noise * torch.randn(len(labels), dim, generator=generator)
    return TrainingSet(x, labels, len(counts)), centres


def corners(seed, scale, count, noise=0.3):
    """A few samples about three corners that any head tells apart, and 200 new ones of each class."""
    random = torch.Generator().manual_seed(seed)
    few, new = (torch.arange(3).repeat_interleave(number) for number in (count, 200))
    x, tested = (
        scale * torch.eye(3, 8)[y] + noise * torch.randn(len(y), 8, generator=random) for y in (few, new)
    )
    return TrainingSet(x, few, 3), tested, new


def random_head_and_features(seed=0, n=40, dim=5, classes=4):
    generator = torch.Generator().manual_seed(seed)
    labels = torch.cat([torch.arange(classes), torch.randint(classes, (n - classes,), generator=generator)])
    x = torch.randn(n, dim, generator=generator, dtype=torch.float64)
    weight = torch.randn(classes, dim, generator=generator, dtype=torch.float64)
    bias = torch.randn(classes, generator=generator, dtype=torch.float64)
    return weight, bias, x, labels, torch.bincount(labels, minlength=classes)


def equal(left, right):
    """Whether two records hold the same tensors."""
    pairs = zip(vars(left).values(), vars(right).values(), strict=True)
    return all(a is b or torch.equal(a, b) for a, b in pairs)
