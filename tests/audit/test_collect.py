"""Counts of what was found, on data where each is known."""

from collections import Counter

import numpy as np
import torch

from lort_hub.audit.collect import Audit
from lort_hub.audit.findings import list_findings
from lort_hub.data.load import load_long_tailed
from lort_hub.data.near_duplicates import NearDuplicate
from lort_hub.features.store import FeatureStore


def digits():
    return load_long_tailed("digits")


def test_repeats_are_counted_by_split_and_class():
    data = digits()
    number, labels = len(data.train), data.train.labels
    other = int(np.flatnonzero(labels != labels[0])[0])
    audit = Audit(data, (), (), ())
    counts = audit.count_repeats([(0, other), (1, 2, number, number + 1)])
    conflict = 2 + 4 * (len({*audit.class_of[[1, 2, number, number + 1]]}) > 1)
    assert counts.to_json() == {
        "images": 6,
        "within_training": 4,
        "within_test": 2,
        "across": 2,
        "other_class": conflict,
    }


def test_pairs_are_joined_to_sets():
    pairs = [
        NearDuplicate(3, 5, 1.0, False),
        NearDuplicate(5, 9, 0.9, True),
        NearDuplicate(20, 30, 0.9, False),
    ]
    assert sorted(Audit(digits(), (), (), tuple(pairs)).near_sets) == [(3, 5, 9), (20, 30)]


def test_classes_and_groups_are_counted():
    data = digits()
    classes, groups = Audit(data, (), (), ()).count_classes((20, 100))
    train, test = Counter(data.train.labels.tolist()), Counter(data.test.labels.tolist())
    assert {int(one.class_): (one.training, one.test) for one in classes} == {
        label: (train[label], test[label]) for label in range(10)
    }
    assert [one.training for one in classes] == sorted(train.values(), reverse=True)
    assert [(one.group, one.classes, one.training) for one in groups] == [
        ("many", sum(n > 100 for n in train.values()), sum(n for n in train.values() if n > 100)),
        (
            "medium",
            sum(20 <= n <= 100 for n in train.values()),
            sum(n for n in train.values() if 20 <= n <= 100),
        ),
        ("few", sum(n < 20 for n in train.values()), sum(n for n in train.values() if n < 20)),
    ]


def store_of(folder, split, x, left_out=()):
    store = FeatureStore.create(folder, {"of": split.name, "n": len(split)}, num_samples=len(split))
    rows = torch.tensor([row for row in range(len(split)) if row not in left_out])
    store.save_part("eval", 0, x[rows], torch.from_numpy(split.labels)[rows], rows, skipped=[*left_out])
    store.groups = split.groups
    return store


def test_labels_are_judged_in_both_splits_though_all_images_of_a_class_are_broken(tmp_path):
    data = digits()
    means = 6 * torch.randn(10, 16)
    train, test = (means[one.labels] + torch.randn(len(one), 16) for one in (data.train, data.test))
    train[5], test[7] = means[(data.train.labels[5] + 3) % 8], means[(data.test.labels[7] + 3) % 8]
    nines = [np.flatnonzero(one.labels == 9).tolist() for one in (data.train, data.test)]
    stores = [
        store_of(tmp_path, split, x, left_out)
        for split, x, left_out in zip((data.train, data.test), (train, test), nines, strict=True)
    ]
    audit = Audit(data, (), (), ()).with_labels(*stores)
    number = len(data.train)
    found = {one.row: (one.label, one.predicted) for one in audit.labels.suspicious}
    assert found == {
        5: (data.train.labels[5], (data.train.labels[5] + 3) % 8),
        number + 7: (data.test.labels[7], (data.test.labels[7] + 3) % 8),
    }
    assert audit.repetition is None
    assert "Suspicious labels: 2 " in " ".join(list_findings(audit))
