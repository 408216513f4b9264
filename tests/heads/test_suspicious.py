"""Planted wrong labels are found first, and nothing is said where nothing is known."""

import torch

from lort_hub.features.matrix import FeatureMatrix
from lort_hub.features.neighbours import nearest_neighbours
from lort_hub.heads.discriminant import Discriminant
from lort_hub.heads.suspicious import SPHERICITY, check_labels
from lort_hub.heads.training_set import TrainingSet


def clusters(spread=1.0, classes=5, each=30):
    labels = torch.arange(classes).repeat_interleave(each)
    return 4 * torch.randn(classes, 12)[labels] + spread * torch.randn(len(labels), 12), labels


def test_wrong_labels_come_first(device):
    x, labels = clusters()
    wrong = labels.clone()
    planted = [3, 40, 77, 120]
    wrong[planted] = (labels[planted] + 1) % 5
    matrix = FeatureMatrix.of(x).to(device)
    check = check_labels(TrainingSet(matrix, wrong, 5))
    assert sorted(one.row for one in check.suspicious[:4]) == planted
    assert all(
        one.predicted == labels[one.row] and one.label == wrong[one.row] for one in check.suspicious[:4]
    )
    assert check.agreement == (150 - 4) / 150
    assert check_labels(TrainingSet(matrix, labels, 5)).suspicious == ()
    in_pairs = check_labels(TrainingSet(matrix, wrong, 5, groups=torch.arange(150) // 2))
    assert sorted(one.row for one in in_pairs.suspicious[:4]) == planted


def test_the_list_is_that_of_leave_one_out_and_brute_force_neighbours():
    x, labels = clusters(spread=6.0)
    training = TrainingSet(x, labels, 5)
    check = check_labels(training)
    model = Discriminant.estimate(training.sums, *training.covariance(0.0), sphericity=SPHERICITY)
    logits = model.leave_one_out(model.basis.rotate(training.matrix), labels)
    neighbours = nearest_neighbours(training.matrix, torch.arange(len(x)), 5)[1]
    expected = {
        row
        for row in range(len(x))
        if logits[row].argmax() != labels[row] and labels[row] not in labels[neighbours[row]]
    }
    assert {one.row for one in check.suspicious} == expected
    assert 5 < len(expected) < 100
    margins = [one.margin for one in check.suspicious]
    assert margins == sorted(margins, reverse=True)
    first = check.suspicious[0]
    assert abs(first.margin - float(logits[first.row].max() - logits[first.row, first.label])) < 1e-3


def test_the_only_image_of_a_class_is_not_judged():
    x, labels = clusters()
    check = check_labels(TrainingSet(torch.cat([x, x[:1]]), torch.cat([labels, torch.tensor([5])]), 6))
    assert 150 not in [one.row for one in check.suspicious]


def test_a_copy_with_the_same_wrong_label_does_not_vouch_for_it():
    x, labels = clusters()
    copies = torch.cat([x, x[[10] * 6]])
    wrong = torch.cat([labels, torch.tensor([3] * 6)])
    wrong[10] = 3
    groups = torch.arange(len(wrong))
    assert not check_labels(TrainingSet(copies, wrong, 5)).suspicious
    groups[150:] = 10
    found = [one.row for one in check_labels(TrainingSet(copies, wrong, 5, groups=groups)).suspicious]
    assert sorted(found) == [10, *range(150, 156)]


def test_where_each_class_is_one_group_nothing_is_judged():
    x, labels = clusters()
    training = TrainingSet(x, labels, 5, groups=labels)
    check = check_labels(training)
    assert (check.suspicious, check.judged) == ((), 0)
    some = check_labels(
        TrainingSet(x, labels, 5, groups=torch.where(labels == 0, 10 + torch.arange(150), labels))
    )
    assert some.judged == 30
