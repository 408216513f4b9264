import json

import pytest

from lort_hub.hub.card import render_card
from tests.support import ROOT

CARDS = sorted(path.parent for path in (ROOT / "model_cards").glob("*/metrics.json"))


@pytest.mark.parametrize("folder", CARDS, ids=lambda folder: folder.name)
def test_published_cards_are_what_their_numbers_say(folder):
    metrics, run = (json.loads((folder / f"{name}.json").read_text()) for name in ("metrics", "run"))
    assert render_card(metrics, run) == (folder / "README.md").read_text()


def test_there_are_published_cards():
    assert CARDS
