import pytest
import torch
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis

from lort_hub.heads.base import FitInputs
from lort_hub.heads.discriminant import Discriminant
from lort_hub.heads.fitters import fit_method
from lort_hub.heads.methods import METHODS
from lort_hub.heads.training_set import TrainingSet
from tests.support.features import clusters

EB_LDA = METHODS["eb-lda"]
COUNTS = (30, 12, 5, 2, 1)


@pytest.fixture(scope="module")
def training():
    return clusters(counts=COUNTS, dim=6, noise=1.5)[0]


def estimated(training, sphericity=0.1):
    return Discriminant.estimate(training.sums, *training.covariance(0.0), sphericity=sphericity)


def fitted(training, sphericity, kept=None):
    return fit_method(EB_LDA, FitInputs(training, kept), {"sphericity": sphericity})


def centred(logits):
    """Logits up to what is common to the classes."""
    return logits.double() - logits.double().mean(dim=-1, keepdim=True)


def drawn(matrix, share, unit=None):
    """A covariance less that share of what sets it apart from a sphere."""
    unit = matrix.diagonal().mean() if unit is None else unit
    return (1 - share) * matrix + share * unit * torch.eye(len(matrix))


@pytest.mark.parametrize("share", [0.05, 0.3, 1.0])
def test_the_head_is_that_of_the_equations_in_the_features_own_coordinates(share, training):
    x, labels, counts = training.x.double(), training.labels, training.class_counts.double()
    means = torch.stack([x[labels == k].mean(dim=0) for k in range(5)])
    origin = means.mean(dim=0)
    within = (x - means[labels]).T @ (x - means[labels]) / (50 - 5)
    _, vectors = torch.linalg.eigh(within)
    spread = ((means - origin) @ vectors).square().sum(dim=0) / 4
    raw = spread - (vectors.T @ within @ vectors).diagonal() * (1 / counts).mean()
    between = vectors @ drawn(raw.diag(), share).clamp_min(0) @ vectors.T
    within = drawn(within, share)
    shrunk = torch.stack(
        [
            between @ torch.linalg.inv(between + within / n) @ (mean - origin)
            for n, mean in zip(counts, means, strict=True)
        ]
    )
    fresh = torch.randn(20, 6, generator=torch.Generator().manual_seed(2)).double()
    apart = fresh[:, None] - origin - shrunk
    distances = torch.einsum("mki,ij,mkj->mk", apart, torch.linalg.inv(within), apart)
    logits = fitted(training, share).logits(fresh)
    torch.testing.assert_close(centred(logits), centred(-distances / 2), atol=1e-4, rtol=1e-5)


def test_with_many_samples_of_each_class_it_is_scikit_learn_s_discriminant():
    training, _ = clusters(counts=(4000, 3000, 2000), dim=5)
    lda = LinearDiscriminantAnalysis(priors=[1 / 3] * 3).fit(training.x, training.labels)
    theirs = torch.from_numpy(lda.decision_function(training.x))
    mine = fitted(training, 1e-9).logits(training.x)
    torch.testing.assert_close(centred(mine), centred(theirs), atol=0.02, rtol=0.002)


def test_means_that_differ_by_noise_alone_are_given_up_and_true_ones_kept():
    random = torch.Generator().manual_seed(0)
    labels = torch.repeat_interleave(torch.arange(40), torch.arange(2, 42))
    x = torch.randn(len(labels), 10, generator=random) * torch.arange(1.0, 11)
    x[:, :2] += 5 * torch.randn(40, 2, generator=random)[labels]
    model = estimated(TrainingSet(x, labels, 40), 1e-6)
    noise = model.within / 2
    kept = model.between / (model.between + noise)
    true = model.basis.vectors[:2].square().sum(dim=0) > 0.5
    assert true.sum() == 2
    assert kept[true].min() > 0.9
    assert kept[~true].median() < 0.2


def test_leave_one_out_is_exact_for_what_it_says_it_is(training):
    # The model without the sample, by inverse matrices, other means and the frame of the shrinkage kept.
    share, counts = 0.2, training.class_counts.double()
    model, labels = estimated(training, share), training.labels
    said = model.leave_one_out(model.basis.rotate(training.matrix), labels).double()
    x = (training.x.double() - model.basis.mean) @ model.basis.vectors
    means = torch.stack([x[labels == k].mean(dim=0) for k in range(5)])
    shrunk = means * (model.between / (model.between + model.within / counts[:, None]))
    for i, label in enumerate(labels.tolist()):
        kept = torch.arange(len(labels)) != i
        left = counts - torch.eye(5)[label]
        class_means, now = means.clone(), shrunk.clone()
        class_means[label] = x[kept & (labels == label)].mean(dim=0) if left[label] else 0
        deviations = (x - class_means[labels])[kept]
        within = deviations.T @ deviations / (len(deviations) - int((left > 0).sum()))
        spread = class_means.square().sum(dim=0) / 4
        noise = (1 / left.clamp_min(1)).mean()
        between = drawn((spread - within.diagonal() * noise).diag(), share).diagonal().clamp_min(0)
        variance = drawn(within, share, model.unit)
        now[label] = 0
        if left[label]:
            shrinkage = between / (between + variance.diagonal() / left[label])
            now[label] = shrinkage * class_means[label]
        inverse = torch.linalg.inv(variance)
        expected = now @ inverse @ x[i] - (now @ inverse * now).sum(dim=1) / 2
        torch.testing.assert_close(said[i], expected, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize(
    ("counts", "dim", "median", "worst"),
    [(COUNTS, 6, 0.02, 0.3), ((40, *range(20, 1, -1)) * 3, 12, 0.01, 0.1)],
)
def test_leave_one_out_is_near_to_fitting_anew_and_far_nearer_than_not_leaving_out(
    counts, dim, median, worst
):
    training, _ = clusters(counts=counts, dim=dim, noise=1.5)
    x, labels, num_classes = training.x, training.labels, len(counts)
    model = estimated(training)
    said = centred(model.leave_one_out(model.basis.rotate(training.matrix), labels))
    seen = centred(fitted(training, 0.1).logits(x))
    errors, naive, agree = [], [], 0
    left_out = [i for i in range(0, len(labels), 1 + len(labels) // 80) if counts[labels[i]] > 1]
    for i in left_out:
        kept = torch.arange(len(labels)) != i
        anew = centred(fitted(TrainingSet(x[kept], labels[kept], num_classes), 0.1).logits(x[i : i + 1]))[0]
        errors.append((said[i] - anew).norm() / anew.norm())
        naive.append((seen[i] - anew).norm() / anew.norm())
        agree += int(said[i].argmax() == anew.argmax())
    errors, naive = torch.stack(errors), torch.stack(naive)
    assert errors.median() < median
    assert errors.max() < worst
    assert errors.mean() < naive.mean() / 3
    assert agree >= len(left_out) - 1


def test_classes_of_one_sample_each_are_told_by_the_nearest():
    x = torch.tensor([[0.0, 0.0], [4.0, 0.0], [0.0, 4.0]])
    head = fitted(TrainingSet(x, torch.arange(3), 3), 0.1)
    assert head.logits(x + torch.tensor([0.5, 0.9])).argmax(dim=1).tolist() == [0, 1, 2]


def test_a_class_without_samples_is_at_the_mean_of_the_others(training):
    kept = training.labels != 1
    head = fitted(training, 0.1, kept)
    rest = TrainingSet(training.x[kept], (training.labels[kept] - 1).clamp_min(0), 4)
    alone = fitted(rest, 0.1)
    assert head.weight[1].eq(0).all()
    assert head.bias[1] == 0
    torch.testing.assert_close(head.weight[[0, 2, 3, 4]], alone.weight)
    torch.testing.assert_close(head.bias[[0, 2, 3, 4]], alone.bias)


def test_classes_far_apart_do_not_hide_the_variance_within_them():
    # It is a difference of two matrices a million times as large as itself.
    training, _ = clusters(counts=(300, 200, 100), dim=8)
    far = TrainingSet(training.x + 300.0 * torch.eye(8)[training.labels], training.labels, 3)
    near_values, far_values = (estimated(t).basis.values.tolist() for t in (training, far))
    assert far_values == pytest.approx(near_values, rel=0.01)


def test_scale_and_shift_of_the_features_change_no_logit(training):
    moved = TrainingSet(32 * training.x + 100, training.labels, 5)
    first, second = (fitted(t, 0.3).logits(t.x) for t in (training, moved))
    torch.testing.assert_close(centred(first), centred(second), atol=1e-2, rtol=1e-3)


def test_constant_features_say_nothing_of_any_class():
    head = fitted(TrainingSet(torch.ones(6, 3), torch.arange(6) % 2, 2), 0.1)
    assert head.logits(torch.randn(4, 3)).eq(0).all()


@pytest.mark.parametrize("sphericity", [0.97, 0.25])
@pytest.mark.parametrize("few", [False, True])
def test_few_samples_of_many_channels_have_one_head_whatever_their_axes(sphericity, few):
    """Where no sample varies within its class, eigenvectors are any: rotated features give a rotated head."""
    random = torch.Generator().manual_seed(0)
    labels = torch.repeat_interleave(torch.arange(3), torch.tensor([20, 9, 4]))
    x = torch.randn(33, 300, generator=random) + 4 * torch.randn(3, 300, generator=random)[labels]
    training, mask = TrainingSet(x, labels, 3), torch.arange(33) % 4 != 0 if few else None
    rotation = torch.linalg.qr(torch.randn(300, 300, generator=random)).Q
    settings = {"sphericity": sphericity}
    heads = [
        fit_method(METHODS["eb-lda"], FitInputs(each, mask), settings)
        for each in (training, TrainingSet(x @ rotation, labels, 3), training.reduced)
    ]
    assert training.reduced.matrix.dim == 33
    lifted = training.reduced.lift_head(heads[2].weight, heads[2].bias)
    first = x @ heads[0].weight.T + heads[0].bias
    for weight, bias in ((heads[1].weight @ rotation.T, heads[1].bias), lifted):
        torch.testing.assert_close(x @ weight.T + bias, first, rtol=0, atol=1e-3 * float(first.abs().max()))


def test_directions_that_views_vary_along_keep_variances_of_their_own():
    random = torch.Generator().manual_seed(0)
    labels = torch.repeat_interleave(torch.arange(3), torch.tensor([20, 9, 4]))
    x = torch.randn(9 * 33, 60, generator=random) + 2 * torch.randn(3, 60, generator=random)[labels.repeat(9)]
    views = TrainingSet(x, labels.repeat(9), 3)
    model = Discriminant.estimate(
        views.sums, *views.covariance(0.0), sphericity=0.25, class_counts=torch.tensor([20, 9, 4])
    )
    assert (model.freedom, model.rank) == (30, 9 * 33 - 3)
    assert len(model.between[:30].unique()) > 5
