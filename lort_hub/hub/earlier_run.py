"""Check that the head of an earlier run can be fitted again: it chose honestly, for such features."""

from __future__ import annotations

import json
from collections.abc import Sequence

from lort_hub.backbones.backbone import Backbone
from lort_hub.errors import ConfigError
from lort_hub.heads.fitted import own_head
from lort_hub.heads.methods import STAGE1
from lort_hub.hub.run_record import backbone_record
from lort_hub.records import DEFAULT, RunRecord
from lort_hub.shorten import shown

ANEW = "Leave `refit` out: settings for other ones have to be chosen anew."


def check_earlier_run(earlier: RunRecord, backbone: Backbone, class_names: Sequence[str]) -> None:
    """Check that what an earlier run chose holds for the classes and the backbone at hand.

    Args:
        earlier: Record of the earlier run.
        backbone: The backbone at hand.
        class_names: Names of the K classes.

    Raises:
        ConfigError: The classes, the kind of backbone, its preprocessing or the head that methods start from
            are others, or the earlier run chose on images that its backbone was trained on.

    Example:
        >>> check_earlier_run(RunRecord.read(Path("out/run.json")), backbone, ["cat"])  # doctest: +SKIP
    """
    if tuple(class_names) != earlier.class_names:
        differ = [f"'{name}' is new" for name in class_names if name not in earlier.class_names]
        differ += [f"'{name}' is missing" for name in earlier.class_names if name not in class_names]
        what = shown(differ, 3) or "their order differs"
        raise ConfigError(f"The run of `refit` is of other classes: {what}.\n{ANEW}")
    before, now = earlier.backbone, backbone_record(backbone)
    kinds = [f"{one.architecture} of {one.num_features} features" for one in (before, now)]
    if kinds[0] != kinds[1]:
        raise ConfigError(f"The run of `refit` is of another backbone, {kinds[0]}, got {kinds[1]}.\n{ANEW}")
    differ = [
        f"{name} {before.preprocessing.get(name)} -> {value}"
        for name, value in now.preprocessing.items()
        if json.dumps(before.preprocessing.get(name)) != json.dumps(value)
    ]
    if differ:
        raise ConfigError(f"The run of `refit` has seen images otherwise: {', '.join(differ)}.\n{ANEW}")
    name = earlier.baseline.name.removesuffix(DEFAULT) if earlier.baseline else earlier.head.method
    has_own = own_head(backbone, class_names) is not None
    if has_own != (name == STAGE1):
        own = "the backbone's own head", "cross-entropy on its features"
        here, then = own if has_own else own[::-1]
        raise ConfigError(f"The run of `refit` starts its heads from {then}, this one from {here}.\n{ANEW}")
    _check_honest(earlier)


def _check_honest(earlier: RunRecord) -> None:
    trained, data = earlier.backbone.trained_on, earlier.data
    if trained is None or trained.fingerprint != data.fingerprint or earlier.arguments.get("refit"):
        return
    if set(data.train_rows) <= set(trained.rows):
        raise ConfigError(
            "The run of `refit` chose on images that its backbone was trained on, all of them.\n"
            "Give one on a backbone that held images out."
        )
