"""Precision and recall of what `lort-hub audit` finds: planted near-duplicates, and planted wrong labels.

    python benchmarks/audit.py --dataset FOLDER [--backbone B] [--image-size 96]

Near-duplicates: among the images 200 are written again in each of five ways. A pair of two images that were
there before counts as a false alarm, though some are the same picture indeed. Wrong labels: 2 % of the images
get another label, drawn in proportion to the class sizes; every other image counts as right.
"""

import io
from collections.abc import Callable
from dataclasses import dataclass, replace

import datasets
import numpy as np
import torch
from PIL import Image, ImageOps

from lort_hub.backbones.load import load_backbone
from lort_hub.commands.arguments import RunArguments, flag
from lort_hub.commands.parser import parse_arguments
from lort_hub.data.dataset import ImageSplit
from lort_hub.data.load import load_long_tailed
from lort_hub.data.near_duplicates import count_images, find_near_duplicates
from lort_hub.data.scan import scan_images
from lort_hub.features.extract import extract_features
from lort_hub.heads.suspicious import check_labels
from lort_hub.heads.training_set import TrainingSet

PLANTED, WRONG = 200, 0.02


@dataclass
class Arguments(RunArguments):
    images: int = flag(8000, "Images to search in, drawn at random.")
    labels: bool = flag(False, "Plant wrong labels too, which needs the features of the backbone.")


def encoded_again(image: Image.Image, quality: int = 90) -> Image.Image:
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=quality)
    return Image.open(buffer)


def cropped(image: Image.Image, left: float, right: float) -> Image.Image:
    (width, height), keep = image.size, 1 - right
    return image.crop(tuple(map(round, (left * width, left * height, keep * width, keep * height))))


WAYS: dict[str, Callable[[Image.Image], Image.Image]] = {
    "JPEG, quality 60": lambda image: encoded_again(image, 60),
    "resized to 80 %": lambda image: image.resize([round(0.8 * side) for side in image.size]),
    "mirrored": ImageOps.mirror,
    "5 % cropped, all sides alike": lambda image: cropped(image, 0.025, 0.025),
    "5 % cropped, right and bottom": lambda image: cropped(image, 0, 0.05),
}


def with_copies(split: ImageSplit, rows: list[int]) -> ImageSplit:
    """Append each of the rows in each of the ways, as JPEG of quality 90 unless said otherwise."""
    copies = []
    for change in WAYS.values():
        for row in rows:
            changed, buffer = change(split.image(row)), io.BytesIO()
            changed.save(
                buffer, "JPEG", quality=60 if isinstance(changed, Image.Image) and changed.format else 90
            )
            copies.append({"bytes": buffer.getvalue(), "path": None})
    images = datasets.concatenate_datasets(
        [
            split.images,
            datasets.Dataset.from_dict({split.image_column: copies}, features=split.images.features),
        ]
    )
    labels = np.concatenate([split.labels, np.tile(split.labels[rows], len(WAYS))])
    return replace(
        split, images=images, labels=labels, rows=np.arange(len(labels)), contents=None, groups=None
    )


def near_duplicates(split: ImageSplit, number: int) -> None:
    rng = np.random.default_rng(0)
    split = split.take(np.sort(rng.permutation(len(split))[:number]))
    rows = np.sort(rng.permutation(len(split))[:PLANTED]).tolist()
    scan = scan_images(with_copies(split, rows), num_workers=2)
    pairs = find_near_duplicates(scan.prints)
    before = [pair for pair in pairs if pair.second < len(split)]
    source = {len(split) + k: rows[k % PLANTED] for k in range(PLANTED * len(WAYS))}
    joined = {tuple(sorted(source.get(at, at) for at in pair[:2])) for pair in pairs}
    found = {at for pair in pairs for at in pair[:2] if at in source}
    linked = {pair.second for pair in pairs if source.get(pair.first, pair.first) == source.get(pair.second)}
    print(f"\n{len(split):,} images; {PLANTED} in each way\n\n| copy | found |\n| --- | --- |")
    for k, way in enumerate(WAYS):
        of_way = range(len(split) + k * PLANTED, len(split) + (k + 1) * PLANTED)
        print(f"| {way} | {100 * np.mean([at in linked for at in of_way]):.1f} % |")
    images = count_images(before)
    print(f"\n{len(before)} pairs of {images} images that were there before ({images / len(split):.2%})")
    wrong = sum(
        a != b and (a in rows or b in rows) and (a, b) not in {p[:2] for p in before} for a, b in joined
    )
    print(f"{wrong} pairs of a copy and an image that it is no copy of; {len(found)} copies in pairs")


def wrong_labels(training: TrainingSet) -> None:
    rng, labels = np.random.default_rng(0), training.labels.numpy()
    planted = rng.permutation(len(labels))[: round(WRONG * len(labels))]
    wrong = labels.copy()
    for row in planted:
        wrong[row] = rng.choice(labels[labels != labels[row]])
    found = check_labels(
        TrainingSet(training.matrix, torch.from_numpy(wrong), training.num_classes)
    ).suspicious
    hits = np.isin([one.row for one in found], planted)
    print(f"\n{len(labels):,} images, {len(planted)} wrong labels\n\n| first | precision | recall |")
    print("| --- | --- | --- |")
    for first in sorted({20, 50, 100, len(planted), len(found)}):
        if first <= len(found):
            share, number = hits[:first].mean(), hits[:first].sum()
            print(f"| {first} | {100 * share:.0f} % | {100 * number / len(planted):.0f} % |")


def main() -> None:
    args = parse_arguments(Arguments, description=__doc__)
    data = load_long_tailed(args.dataset, **args.data_options())
    near_duplicates(data.train, args.images)
    if args.labels:
        backbone = load_backbone(args.backbone, pretrained=args.pretrained, image_size=args.image_size)
        store = extract_features(backbone, data.train, num_workers=args.num_workers)
        wrong_labels(TrainingSet.of(store, data.num_classes))


if __name__ == "__main__":
    main()
