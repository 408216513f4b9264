"""Classes of data and outputs of models are matched by name, and never by their order."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lort_hub.backbones.load import load_backbone
from lort_hub.classifiers.class_names import OutputName, map_classes, name_outputs
from lort_hub.errors import CheckpointError, ConfigError, DatasetError


def named(*names):
    return [OutputName(name) for name in names]


HOSTILE = [
    "a|b",
    "<b>&amp;",
    "  ",
    "",
    "-",
    "_",
    "$x$",
    "naïve",
    "日本",
    "-inf",
    "nan",
    "a,b",
    '"',
    "\\",
    "[1]",
]


@given(st.lists(st.sampled_from(HOSTILE) | st.text(max_size=4), min_size=1, unique=True), st.randoms())
def test_any_names_find_themselves_in_any_order(names, random):
    shuffled = random.sample(names, len(names))
    found = map_classes(names, named(*shuffled), "model")
    assert [shuffled[k] for k in found.outputs] == names
    assert (found.missing, found.renamed, found.unused_names) == ((), (), ())
    assert found.notes() == []


def test_the_same_name_goes_before_one_that_only_looks_the_same():
    found = map_classes(["Cat", "cat"], named("cat", "Cat", "dog"), "model")
    assert found.outputs.tolist() == [1, 0]
    assert (found.unused.tolist(), found.unused_names) == ([2], ("dog",))


@pytest.mark.parametrize("written", ["big dog", "BIG DOG", "Big_Dog", "big-dog", " big  dog "])
def test_capitals_blanks_underscores_and_hyphens_make_no_difference(written):
    found = map_classes(["cat", "big_dog"], named(written, "cat"), "model")
    assert found.outputs.tolist() == [1, 0]
    assert found.renamed == (("big_dog", written),)
    assert f"'big_dog' is '{written}'" in found.notes()[0]


def test_classes_of_one_side_alone_are_listed_with_names_that_are_close():
    found = map_classes(["cat", "lynx", "owl"], named("lynxes", "cat", "wolf"), "model")
    assert found.outputs.tolist() == [1, -1, -1]
    assert found.missing == ("lynx", "owl")
    assert found.known.tolist() == [True, False, False]
    missing, unused = found.notes()
    assert "does not have: 2" in missing
    assert "'lynx' (did you mean 'lynxes'?), 'owl'" in missing
    assert "count as wrong" in missing
    assert "2; an answer of them counts as wrong. They are 'lynxes', 'wolf'." in unused


def test_what_could_be_two_is_refused():
    with pytest.raises(DatasetError, match=r"'big dog' of the data could be 2 outputs of 'm': .*'Big_dog'"):
        map_classes(["big dog"], named("Big_dog", "big-dog"), "m")
    with pytest.raises(DatasetError, match=r"could be 2 outputs of 'm': 'crane' \(output 0\)"):
        map_classes(["crane"], named("crane", "crane"), "m")
    with pytest.raises(DatasetError, match=r"'cat' and 'CAT' of the data are both 'cat' of 'm'"):
        map_classes(["cat", "CAT"], named("cat"), "m")


@pytest.fixture(scope="module")
def nameless():
    """A classifier of 1,000 outputs without names, as timm's are."""
    backbone = load_backbone("test_resnet", pretrained=False, image_size=32)
    return replace(backbone, is_classifier=True)


def tagged(backbone, tag):
    backbone.model.pretrained_cfg = {**backbone.model.pretrained_cfg, "tag": tag}
    return backbone


def test_outputs_of_imagenet_have_the_names_that_timm_gives_them(nameless):
    from timm.data import ImageNetInfo

    info = ImageNetInfo("imagenet-1k")
    outputs, note = name_outputs(tagged(nameless, "a1_in1k"))
    assert "names no classes; by its tag, a1_in1k, they are ImageNet's: its 1,000 outputs" in note
    assert [one.name for one in outputs] == info.label_descriptions()
    synsets = info.label_names()[::-1]
    assert map_classes(synsets, outputs, "m").outputs.tolist() == list(range(999, -1, -1))
    data = ["golden_retriever", "tabby_cat", "tench", "American_lobster", "crayfish", "giant_panda"]
    assert map_classes(data, outputs, "m").outputs.tolist() == [207, 281, 0, 122, 124, 388]
    with pytest.raises(DatasetError, match=r"'panda' .* 'n02509815' or 'lesser panda' \(output 387\)"):
        map_classes(["panda"], outputs, "m")
    with pytest.raises(DatasetError, match="'crane'"):  # a bird and a machine
        map_classes(["crane"], outputs, "m")


def test_synsets_find_the_classes_of_a_model_that_names_imagenet_s_in_words(nameless):
    from timm.data import ImageNetInfo

    info = ImageNetInfo("imagenet-1k")
    names = [*info.label_descriptions()[:950], *(f"class {k}" for k in range(50))]
    outputs, note = name_outputs(replace(nameless, class_names=tuple(names)))
    assert note is None
    assert map_classes(info.label_names()[:9], outputs, "m").outputs.tolist() == list(range(9))
    others = tuple(f"class {k}" for k in range(1000))
    outputs, _ = name_outputs(replace(nameless, class_names=others))
    assert (map_classes([info.label_names()[3]], outputs, "m").outputs == -1).all()


@pytest.mark.parametrize("tag", [None, "", "inat", "in1k_mine", "lvd142m"])
def test_the_order_of_outputs_without_names_is_never_assumed(nameless, tag):
    with pytest.raises(CheckpointError, match="does not name its 1,000 classes"):
        name_outputs(tagged(nameless, tag))


def test_a_file_names_the_outputs(nameless, tmp_path):
    file = tmp_path / "names.txt"
    file.write_text("\n".join(f"class {k}" for k in range(1000)) + "\n\n")
    outputs, note = name_outputs(tagged(nameless, "a1_in1k"), file)
    assert (outputs[999], len(outputs)) == (OutputName("class 999"), 1000)
    assert str(file) in note
    file.write_text("ant\nbee\n")
    with pytest.raises(ConfigError, match="has 2 names, expected 1,000"):
        name_outputs(nameless, file)
    with pytest.raises(ConfigError, match="Cannot read the class names"):
        name_outputs(nameless, tmp_path / "none.txt")


def test_random_weights_are_no_classifier():
    backbone = load_backbone("test_resnet", pretrained=False, image_size=32)
    with pytest.raises(CheckpointError, match="'test_resnet' has no trained classifier"):
        name_outputs(backbone)


def test_a_model_of_features_alone_is_no_classifier(tmp_path):
    import timm

    model = timm.create_model("test_resnet", num_classes=0)
    timm.models.save_for_hf(model, str(tmp_path), safe_serialization=True)
    backbone = load_backbone(str(tmp_path))
    assert not backbone.is_classifier
    model = timm.create_model("test_resnet", num_classes=3)
    timm.models.save_for_hf(model, str(tmp_path), safe_serialization=True)
    assert load_backbone(str(tmp_path)).is_classifier


def test_a_model_of_transformers_without_a_classifier_is_none(tmp_path):
    from transformers import ViTConfig, ViTImageProcessor, ViTModel

    config = ViTConfig(hidden_size=32, num_hidden_layers=1, num_attention_heads=2, intermediate_size=32)
    config.image_size, config.patch_size = 32, 8
    ViTModel(config, add_pooling_layer=False).save_pretrained(tmp_path)
    ViTImageProcessor(size={"height": 32, "width": 32}).save_pretrained(tmp_path)
    assert not load_backbone(str(tmp_path)).is_classifier
