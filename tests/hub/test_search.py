from dataclasses import replace

import pytest
from huggingface_hub import HfApi

from lort_hub.errors import HubUnavailableError
from lort_hub.hub.lort_head import LortHead
from lort_hub.hub.search import list_heads


def test_the_hub_is_searched_by_what_the_card_says(hub):
    folder = hub.root / "models" / "org" / "carded"
    folder.mkdir()
    (folder / "README.md").write_text("---\ntags: [lort]\nbase_model: timm/x\ndatasets: [org/y]\n---\n")

    def found(**by):
        return [model.id for model in HfApi(endpoint=hub.endpoint).list_models(**by)]

    assert found(filter="base_model:timm/x") == ["org/carded"]
    assert found(filter=["dataset:org/y", "lort"], author="org", search="Card") == ["org/carded"]
    assert found(filter="lort", author="me") == []


def test_published_heads_are_found_by_backbone_and_data(hub):  # noqa: ARG001
    found = list_heads()
    assert [row.repo_id for row in found] == ["me/full", "me/head"]
    test = LortHead.from_pretrained("me/head").config["results"]["lort"]
    for row in found:
        assert (row.method, row.backbone, row.dataset) == ("lort", "org/backbone", "digits")
        assert row.balanced_accuracy == pytest.approx(test["balanced_accuracy"], abs=1e-6)
    assert list_heads(backbone="org/backbone", dataset="digits") == found
    assert list_heads(backbone="test_resnet") == found
    assert list_heads(backbone="org/other") == list_heads(dataset="cifar100") == []


def test_a_stranger_s_card_with_our_tag_is_a_row_without_facts(hub):
    (hub.root / "models" / "me" / "odd").mkdir()
    (hub.root / "models" / "me" / "odd" / "README.md").write_text("---\ntags:\n- lort_hub\n- method\n---\n")
    (row,) = (row for row in list_heads() if row.repo_id == "me/odd")
    assert replace(row, downloads=None) == type(row)("me/odd", "", None, None, None, None)


def test_a_search_that_fails_is_an_error_not_a_traceback(hub):
    hub.fail_next("GET", "/api/models$", 400)
    with pytest.raises(HubUnavailableError, match="Cannot search"):
        list_heads()
