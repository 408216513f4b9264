"""Say in words what an audit found, and what is the way out."""

from __future__ import annotations

from lort_hub.audit.collect import Audit
from lort_hub.audit.record import RepeatCounts
from lort_hub.shorten import shown

MANY = 0.01
"""Share of the images with a near-duplicate from which on choices and test numbers are called too rosy."""
UNSURE = 0.7
"""Agreement of the head with the labels below which the suspicious labels are called of little use."""


def list_findings(audit: Audit) -> list[str]:
    """List what should be looked at, the most serious first; arguments are named in backticks.

    Example:
        >>> from lort_hub.data.load import load_long_tailed
        >>> list_findings(Audit.collect(load_long_tailed("digits")))
        ['Nothing was found that needs a look before the training.']
    """
    found = [*_broken(audit), *_copies(audit), *_near_duplicates(audit)]
    if audit.repetition and not audit.data.source["groups"]:
        found.append(audit.repetition)
    found += [*_labels(audit), *_tail(audit)]
    return found or ["Nothing was found that needs a look before the training."]


def _broken(audit: Audit) -> list[str]:
    if not audit.broken:
        return []
    return [
        f"Images that cannot be decoded: {len(audit.broken):,} of {len(audit.facts):,} (broken_images.csv). "
        'They stop a training; mend them, or leave them out with `on_bad_image="skip"`.'
    ]


def _copies(audit: Audit) -> list[str]:
    counts, found = audit.count_repeats(audit.copy_sets), []
    if counts.across:
        found.append(
            f"Test images that are training images too, byte for byte: {counts.across:,} (duplicates.csv). "
            'The test is too rosy; `on_duplicate="drop"` leaves the copies out of the training.'
        )
    if counts.within_training or counts.within_test:
        found.append(
            f"Images with a copy in the same split, byte for byte: {counts.within_training:,} for training, "
            f"{counts.within_test:,} for the test (duplicates.csv)."
        )
    if counts.other_class:
        found.append(
            f"Images with a copy that has another label: {counts.other_class:,}. One of two is wrong."
        )
    return found


def _near_duplicates(audit: Audit) -> list[str]:
    counts = audit.count_repeats(audit.near_sets)
    if not counts.images:
        return []
    found = [
        f"Near-duplicates, the same picture in another file: {counts.images:,} of {len(audit.facts):,} "
        f"images (near_duplicates.csv). Test images of a training image among them: {counts.across:,}; "
        f"images of which another one has another label: {counts.other_class:,}."
    ]
    if is_too_rosy(counts, audit) and not audit.data.source["groups"]:
        found.append(
            "Choices of settings and test numbers will be too rosy, because the same pictures are on both "
            "sides. `group_pattern` or `group_column` keep together what belongs together; "
            '`on_duplicate="drop"` leaves out copies of the same bytes alone.'
        )
    return found


def is_too_rosy(counts: RepeatCounts, audit: Audit) -> bool:
    """Decide whether near-duplicates are so many that held-out numbers cannot be trusted.

    Args:
        counts: Of the near-duplicates.
        audit: What was found.

    Example:
        >>> from lort_hub.data.load import load_long_tailed
        >>> audit = Audit.collect(load_long_tailed("digits"))
        >>> is_too_rosy(RepeatCounts(40, 0, 0, 20, 0), audit)
        True
    """
    of_test = counts.across >= MANY * len(audit.data.test)
    return of_test or counts.within_training >= MANY * len(audit.data.train)


def _labels(audit: Audit) -> list[str]:
    if audit.labels is not None and not audit.labels.judged:
        return ["Labels: not judged, as of no class an image, or a group, can be left out."]
    if audit.labels is None or not audit.labels.suspicious:
        return []
    number, agreement = len(audit.labels.suspicious), audit.labels.agreement
    found = [
        f"Suspicious labels: {number:,} (suspicious_labels.csv, the most suspicious first). Neither a head "
        "fitted without the image nor any of its five nearest neighbours has them."
    ]
    if agreement < UNSURE:
        found.append(
            f"The head gives {100 * agreement:.0f} % of the judged images their own label: these features "
            "tell the classes apart badly, and most suspicious labels will be right. Another `backbone` may "
            "see more."
        )
    return found


def _tail(audit: Audit) -> list[str]:
    counts, names = audit.data.class_counts, audit.data.class_names
    alone = [repr(names[k]) for k in range(len(names)) if counts[k] == 1]
    if not alone:
        return []
    return [f"Classes with one training image, which cannot be held out: {len(alone):,} ({shown(alone, 5)})."]
