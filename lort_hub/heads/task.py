"""Extract the features that stage 2 fits and tests heads on, and keep the heads beside them."""

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
from lort_hub.heads.search import Choice, Selection
from lort_hub.heads.training_set import TrainingSet

if TYPE_CHECKING:
    from accelerate import Accelerator


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
        matrix, labels, rows = train.open(processes=processes)
        names = [augmented_view(options.get("seed", 0), view + 1) for view in range(views)]
        unseen = backbone.trained_on.unseen(data) if backbone.trained_on else None
        held_out = None if unseen is None else torch.from_numpy(unseen)[rows]
        data = data.leave_out(*(store.skipped(processes) for store in stores))
        notes = data.left_out()
        if backbone.trained_on and unseen is None:
            notes.append(f"note: {backbone.trained_on.doubt()}")
        training = TrainingSet(matrix, labels, data.num_classes, held_out)
        matrices = [train.open(name, processes)[0] for name in names]
        return cls(data, training, matrices, train, test_store, notes)

    def baseline(self, backbone: Backbone, *, select_by: str | None = None, seed: int = 0) -> Fit:
        """The head the backbone came with where its classes match, else cross-entropy on these features."""
        own = own_head(backbone, self.data.class_names)
        return stage1_fit(*own) if own else fit_head(self.training, "ce", select_by=select_by, seed=seed)

    def kept_baseline(self, backbone: Backbone, *, select_by: str | None = None, seed: int = 0) -> Fit:
        """The same, kept beside the features: cross-entropy takes longer than most heads that follow it."""
        made_by = [backbone.class_names, select_by, seed]
        fit = self.kept(made_by)
        if fit is None:
            fit = self.baseline(backbone, select_by=select_by, seed=seed)
            if fit.method != STAGE1:
                self.keep(fit, made_by)
        return fit

    def keep(self, fit: Fit, made_by: list[Any]) -> bool:
        """Keep a linear head beside the features; every process calls this, and the first one writes.

        Args:
            fit: The head.
            made_by: JSON-ready values that tell it from heads made otherwise.

        Returns:
            Whether there was room for it.
        """
        name = self._name(made_by)
        try:
            if self.training.processes.index == 0:
                self.train_store.keep(name, *fit.to_keep())
        except OSError:
            return False
        return True

    def kept(self, made_by: list[Any]) -> Fit | None:
        """The head that `keep` has kept beside these features; None unless every process finds it."""
        processes = self.training.processes
        kept = self.train_store.kept(self._name(made_by))
        found = torch.tensor(int(kept is not None))
        processes.total(found)
        if kept is None or found < processes.count:
            return None
        processes.agree(*(kept[0][name] for name in sorted(kept[0])))
        return Fit.restored(*kept)

    def _name(self, made_by: list[Any]) -> str:
        processes, held_out = self.training.processes, self.training.held_out
        unseen = None if held_out is None else processes.gather(held_out).nonzero().flatten().tolist()
        forms = [[field.name for field in fields(form)] for form in (Selection, Choice)]  # of what is kept
        how = json.dumps([__version__, torch.__version__, forms, self.data.class_names, unseen, made_by])
        return hashlib.sha256(how.encode()).hexdigest()[:16]
