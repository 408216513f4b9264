from dataclasses import replace

import pytest

from lort_hub.backbones.load import load_backbone
from lort_hub.errors import ConfigError
from lort_hub.hub.earlier_run import check_earlier_run
from lort_hub.hub.run_record import backbone_record
from lort_hub.records import RunRecord, TrainedOn
from tests.support import ROOT

RUN = ROOT / "model_cards" / "cifar100-lt-ir100-resnet32-autoaugment-auto" / "run.json"
NAMES = ("ant", "bee", "cat")


def backbone(size=32, own_classes=None):
    loaded = load_backbone("test_resnet", pretrained=False, image_size=size)
    return loaded.with_new_classifier(own_classes) if own_classes else loaded


def earlier(**changes):
    """A run on cross-entropy of that backbone's features, with changes to its parts."""
    run = RunRecord.read(RUN)
    baseline = replace(run.baseline, name="ce")
    made = replace(run, backbone=backbone_record(backbone()), class_names=NAMES, baseline=baseline)
    return RunRecord.from_json(replace(made, **changes).to_json())


def test_a_run_of_the_same_kind_is_taken():
    check_earlier_run(earlier(), backbone(), NAMES)
    own = replace(earlier().baseline, name="stage 1")
    check_earlier_run(earlier(baseline=own), backbone(own_classes=NAMES), NAMES)
    head = replace(earlier().head, method="ce")
    check_earlier_run(earlier(head=head, baseline=None), backbone(), NAMES)


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (("ant", "bee", "dog"), "'dog' is new, 'cat' is missing"),
        (("1", "2", "3"), "'3' is new and 3 more"),
        (NAMES[::-1], "their order differs"),
    ],
)
def test_other_classes_are_refused(names, message):
    with pytest.raises(ConfigError, match=message):
        check_earlier_run(earlier(), backbone(), names)


def test_another_backbone_is_refused():
    with pytest.raises(ConfigError, match="resnet32_cifar of 64 features, got test_resnet of 96"):
        check_earlier_run(earlier(backbone=RunRecord.read(RUN).backbone), backbone(), NAMES)
    with pytest.raises(ConfigError, match=r"input_size \[3, 32, 32\] -> .*48, 48"):
        check_earlier_run(earlier(), backbone(size=48), NAMES)
    with pytest.raises(ConfigError, match="from cross-entropy on its features, .* the backbone's own head"):
        check_earlier_run(earlier(), backbone(own_classes=NAMES), NAMES)
    own = replace(earlier().baseline, name="stage 1 (default)")
    with pytest.raises(ConfigError, match="from the backbone's own head, this one from cross-entropy"):
        check_earlier_run(earlier(baseline=own), backbone(), NAMES)


def test_a_run_that_chose_on_memorised_images_is_refused_unless_it_is_a_refit():
    rows, fingerprint = earlier().data.train_rows, earlier().data.fingerprint

    def trained(rows, fingerprint=fingerprint, **arguments):
        memorised = TrainedOn("cifar100", "train", tuple(rows), fingerprint)
        record = replace(backbone_record(backbone()), trained_on=memorised)
        return earlier(backbone=record, arguments={"method": "auto", **arguments})

    with pytest.raises(ConfigError, match="chose on images that its backbone was trained on, all of them"):
        check_earlier_run(trained(rows), backbone(), NAMES)
    for honest in (trained(rows[1:]), trained(rows, "f00"), trained(rows, refit="out/head")):
        check_earlier_run(honest, backbone(), NAMES)
