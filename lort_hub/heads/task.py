"""What stage 2 works on: the features of a data set's training and test images."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, fields
from functools import cached_property
from typing import TYPE_CHECKING, Any

import torch

from lort_hub import __version__
from lort_hub.backbones.backbone import Backbone
from lort_hub.data.dataset import LongTailedData
from lort_hub.data.transforms import augmented_view
from lort_hub.features.distributed import Processes
from lort_hub.features.extract import extract_features
from lort_hub.features.matrix import FeatureMatrix
from lort_hub.features.store import Features, FeatureStore
from lort_hub.heads.fit import Fit, fit_head, own_head, stage1_fit
from lort_hub.heads.methods import STAGE1
from lort_hub.heads.search import Selection
from lort_hub.heads.training_set import TrainingSet
from lort_hub.records import TrainedOn

if TYPE_CHECKING:
    from accelerate import Accelerator


def memorised_note(record: TrainedOn) -> str:
    """Write the note that a backbone may have been trained on the images at hand.

    Args:
        record: The images that it was trained on.

    Example:
        >>> memorised_note(TrainedOn("cifar100", "train", (0, 1), "f00"))[:46]
        "note: the backbone was trained on 'cifar100'; "
    """
    return (
        f"note: the backbone was trained on '{record.dataset}'; if these images are a copy of those, it has "
        "memorised them and the choice of gamma and weight decay is too rosy about the tail."
    )


@dataclass(frozen=True)
class RetrainingTask:
    """Features to fit heads on, and to test them on.

    Attributes:
        data: The data set, without images that could not be decoded.
        training: Features of its training images, with those that a backbone trained on them held out.
        views: Features (N, D) of augmented views of the training images.
        train_store: What the training features were read from.
        test_store: Features of its test images.
        notes: What the user has to know about them.
    """

    data: LongTailedData
    training: TrainingSet
    views: list[FeatureMatrix]
    train_store: FeatureStore
    test_store: FeatureStore
    notes: list[str]

    @cached_property
    def test(self) -> Features:
        """Features of the test images, in memory."""
        return self.test_store.load()

    @classmethod
    def extract(
        cls,
        backbone: Backbone,
        data: LongTailedData,
        accelerator: Accelerator,
        *,
        views: int = 0,
        shared: bool = False,
        **options: Any,
    ) -> RetrainingTask | None:
        """Extract what is not in the cache; every process calls this.

        Args:
            backbone: The frozen backbone.
            data: The data set.
            accelerator: Device, precision and processes.
            views: Augmented views of each training image.
            shared: Whether each process takes its share of the training images, and all fit heads together.
            options: Of `extract_features`: batch_size, num_workers, on_bad_image, seed, folder, dtype.

        Returns:
            The features; unless they are shared, None on every process but the main one.

        Example:
            >>> import tempfile
            >>> from pathlib import Path
            >>> from accelerate import Accelerator
            >>> from lort_hub.data.load import load_long_tailed
            >>> from lort_hub.backbones.load import load_backbone
            >>> backbone = load_backbone("test_resnet", pretrained=False, image_size=32)
            >>> folder, data = Path(tempfile.mkdtemp()), load_long_tailed("digits")
            >>> task = RetrainingTask.extract(backbone, data, Accelerator(cpu=True), folder=folder)
            >>> task.training.x.shape, task.test.x.shape
            (torch.Size([523, 96]), torch.Size([500, 96]))
        """
        stores = [
            extract_features(backbone, split, accelerator=accelerator, views=number, **options)
            for split, number in ((data.train, views), (data.test, 0))
        ]
        if not shared and not accelerator.is_main_process:
            return None
        processes = Processes.of(accelerator) if shared else Processes()
        train, test_store = stores
        names = [augmented_view(options.get("seed", 0), view + 1) for view in range(views)]
        data = data.leave_out(*(store.skipped(processes) for store in stores))
        notes = data.left_out()
        if backbone.trained_on and train.unseen is None:
            notes.append(memorised_note(backbone.trained_on))
        training = TrainingSet.of(train, data.num_classes, processes)
        matrices = [train.open(name, processes)[0] for name in names]
        return cls(data, training, matrices, train, test_store, notes)

    def baseline(self, backbone: Backbone, *, select_by: str | None = None, seed: int = 0) -> Fit:
        """The head the backbone came with where its classes match, else cross-entropy on these features."""
        own = own_head(backbone, self.data.class_names)
        return stage1_fit(*own) if own else fit_head(self.training, "ce", select_by=select_by, seed=seed)

    def kept_baseline(self, backbone: Backbone, *, select_by: str | None = None, seed: int = 0) -> Fit:
        """The same, kept beside the features: cross-entropy takes longer than most heads that follow it."""
        processes, held_out = self.training.processes, self.training.held_out
        unseen = None if held_out is None else processes.gather(held_out).nonzero().flatten().tolist()
        how = json.dumps(
            [
                __version__,
                torch.__version__,
                [field.name for field in fields(Selection)],  # what is kept has another form without them
                self.data.class_names,
                backbone.class_names,
                select_by,
                seed,
                unseen,
            ]
        )
        name = hashlib.sha256(how.encode()).hexdigest()[:16]
        kept = self.train_store.kept(name)
        found = torch.tensor(int(kept is not None))
        processes.total(found)
        if kept and found == processes.count:
            processes.agree(*(kept[0][name] for name in sorted(kept[0])))
            return Fit.restored(*kept)
        fit = self.baseline(backbone, select_by=select_by, seed=seed)
        if processes.index == 0 and fit.method != STAGE1:
            self.train_store.keep(name, *fit.to_keep())
        return fit
