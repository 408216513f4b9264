"""Say in words what an audit found, and what is the way out."""

from __future__ import annotations

from lort_hub.audit.collect import Audit
from lort_hub.audit.record import RepeatCounts
from lort_hub.data.image_folder.reading import shortened

MANY = 0.01
"""Share of the images with a near-duplicate from which on choices and test numbers are called too rosy."""
UNSURE = 0.7
"""Agreement of the head with the labels below which the suspicious labels are called of little use."""


def list_findings(audit: Audit) -> list[str]:
    """List what should be looked at, the most serious first; arguments are named in backticks.

    Example:
        >>> from lort_hub.data.load import load_long_tailed
        >>> list_findings(Audit.collect(load_long_tailed("digits")))
        ['10 of 10 classes: nothing was found that needs a look before the training.']
    """
    found = [*_broken(audit), *_copies(audit), *_near_duplicates(audit)]
    if audit.repetition and not audit.data.source["groups"]:
        found.append(audit.repetition.removeprefix("note: "))
    found += [*_labels(audit), *_tail(audit)]
    number = audit.data.num_classes
    return found or [
        f"{number} of {number} classes: nothing was found that needs a look before the training."
    ]


def _broken(audit: Audit) -> list[str]:
    if not audit.broken:
        return []
    return [
        f"{len(audit.broken):,} of {len(audit.facts):,} images cannot be decoded (broken_images.csv): they "
        'stop a training. Mend them, or leave them out with `on_bad_image="skip"`.'
    ]


def _copies(audit: Audit) -> list[str]:
    counts, found = audit.count_repeats(audit.copy_sets), []
    if counts.across:
        found.append(
            f"{counts.across:,} test images are training images too, byte for byte: the test is too rosy. "
            '`on_duplicate="drop"` leaves the copies out of the training.'
        )
    if counts.images:
        within = f"{counts.within_training:,} training images have a copy among the training images"
        found.append(f"{within}, {counts.within_test:,} test images among the test images (duplicates.csv).")
    if counts.other_class:
        found.append(
            f"{counts.other_class:,} images have a copy with another label: one of the two is wrong."
        )
    return found


def _near_duplicates(audit: Audit) -> list[str]:
    counts = audit.count_repeats(audit.near_sets)
    if not counts.images:
        return []
    found = [
        f"{counts.images:,} of {len(audit.facts):,} images have a near-duplicate, the same picture in "
        f"another file (near_duplicates.csv): {counts.across:,} test images one among the training images, "
        f"{counts.other_class:,} images one of another class."
    ]
    if is_too_rosy(counts, audit) and not audit.data.source["groups"]:
        found.append(
            "So choices of settings and test numbers will be too rosy, because the same picture is on both "
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
    if audit.labels is None or not audit.labels.suspicious:
        return []
    number, agreement = len(audit.labels.suspicious), audit.labels.agreement
    found = [
        f"{number:,} labels are suspicious (suspicious_labels.csv, the most suspicious first): neither a "
        "head fitted without the image nor any of its five nearest neighbours has them."
    ]
    if agreement < UNSURE:
        found.append(
            f"The head gives {100 * agreement:.0f} % of the images their own label: these features tell the "
            "classes apart badly, and most suspicious labels will be right. Another `backbone` may see more."
        )
    return found


def _tail(audit: Audit) -> list[str]:
    counts, names = audit.data.class_counts, audit.data.class_names
    alone = [repr(names[k]) for k in range(len(names)) if counts[k] == 1]
    if not alone:
        return []
    return [f"{len(alone):,} classes have one training image, which cannot be held out: {shortened(alone)}."]
