"""docs/results.md is what its data say."""

import runpy

from tests.support import ROOT

RESULTS = runpy.run_path(str(ROOT / "benchmarks" / "results.py"))


def test_the_page_of_results_is_what_its_data_say():
    assert RESULTS["render"]() == (ROOT / "docs" / "results.md").read_text()


def test_regret_is_the_best_single_method_less_auto():
    cell = {"ce": {"balanced_accuracy": 0.5}, "lort": {"balanced_accuracy": 0.625}}
    cell |= {"auto": {"balanced_accuracy": 0.5625, "seeds": 2}, "stage 1": {"balanced_accuracy": 0.9}}
    assert RESULTS["regret"]({"a": cell}).splitlines()[2:] == [
        "| a | 2 | lort | 62.5 | 56.2 | 6.25 |",
        "| mean of 1 |  |  |  |  | 6.25 |",
        "| largest |  |  |  |  | 6.25 |",
    ]
