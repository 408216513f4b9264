import json

import pytest

from lort_hub.evaluation.report import MetricsRecord
from lort_hub.hub.card import render_card
from lort_hub.records import RunRecord
from tests.support import ROOT

CARDS = sorted(path.parent for path in (ROOT / "model_cards").glob("*/metrics.json"))


@pytest.mark.parametrize("folder", CARDS, ids=lambda folder: folder.name)
def test_published_cards_are_what_their_numbers_say(folder):
    metrics, run = MetricsRecord.read(folder / "metrics.json"), RunRecord.read(folder / "run.json")
    assert render_card(metrics, run) == (folder / "README.md").read_text()


@pytest.mark.parametrize("folder", CARDS, ids=lambda folder: folder.name)
def test_published_files_are_what_their_records_write(folder):
    for kind, name in ((MetricsRecord, "metrics.json"), (RunRecord, "run.json")):
        published = json.loads((folder / name).read_text())
        assert json.dumps(kind.from_json(published).to_json()) == json.dumps(published)


def test_there_are_published_cards():
    assert CARDS
