import json
from dataclasses import replace

import numpy as np
import pytest

from lort_hub.evaluation.metrics import evaluate
from lort_hub.evaluation.report import ResultRow
from lort_hub.evaluation.tables import COMPARISON_COLUMNS, comparison_table, result_row, study_table
from tests.support.rows import row_of

PROMISED = ("method", "seed", "accuracy", "balanced_accuracy", "many", "medium", "few", "macro_f1", "nll")
PROMISED += ("ece", "logits_magnitude_mean", "logits_magnitude_std", "seconds", "chosen")
COLUMNS = {"method": "ce", "seed": 3, "seconds": 0.5, "chosen": {"tau": 1}}


def report_of(seed=0, weight=None, counts=(200, 50, 5), labels=(0, 0, 1, 1, 2, 2)):
    rng = np.random.default_rng(seed)
    logits = rng.normal(size=(len(labels), len(counts)))
    return evaluate(logits, np.array(labels), np.array(counts), weight=weight)


def test_a_row_has_the_columns_promised_and_the_report_s_numbers():
    weight = np.array([[3.0, 4.0], [0.0, 10.0], [15.0, 0.0]])
    report = report_of(weight=weight)
    record = result_row(report, np.array([200, 50, 5]), **COLUMNS)
    row = record.to_csv()
    assert list(row)[:5] == ["method", "seed", "seconds", "chosen", "accuracy"]
    assert list(replace(record, cell="digits").to_csv())[:2] == ["cell", "method"]
    assert list(row)[-1] == "backward 50"
    assert ResultRow.from_json(json.loads(json.dumps(record.to_json()))) == record
    assert set(PROMISED) <= set(row)
    assert (row["method"], row["seed"], json.loads(row["chosen"])) == ("ce", 3, {"tau": 1})
    for name in ("accuracy", "balanced_accuracy", "many", "medium", "few", "macro_f1", "nll", "ece", "n"):
        assert row[name] == report[name]
    assert row["logits_magnitude_mean"] == pytest.approx(np.mean(report.logits_magnitude.per_class))
    assert row["logits_magnitude_std"] == pytest.approx(np.std(report.logits_magnitude.per_class))
    assert row["weight_norm_spread"] == pytest.approx(np.std([5, 10, 15]) / 10)
    assert result_row(report_of(), np.array([200, 50, 5]), **COLUMNS).weight_norm_spread is None


def test_a_head_of_zero_weights_has_no_spread_of_their_norms():
    report = report_of(weight=np.zeros((3, 2)))
    assert result_row(report, np.array([200, 50, 5]), **COLUMNS).weight_norm_spread is None


def cells(table):
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in table.splitlines()]


def test_table_is_in_percent_with_mean_and_spread_over_seeds():
    numbers = [(0.50, 1.0, 0.1), (0.54, 1.5, None), (0.61, 2.0, None)]
    rows = [
        row_of(balanced_accuracy=accuracy, nll=nll, many=many, few=None, chosen={"tau": nll, "b": 0})
        for accuracy, nll, many in numbers
    ]
    rows.append(row_of(method="lort", chosen={"method": "lort", "gamma": 0.0, "label_aware": False}))
    header, _, ce, lort = cells(comparison_table(rows, {"p vs ce": {"lort": 0.0304}}).to_markdown())
    got = dict(zip(header, ce, strict=True))
    assert header[0] == "method"
    assert got["balanced"] == "55.0 ± 5.6"  # std of 50, 54, 61 with N - 1: sqrt(31)
    assert got["NLL"] == "1.500 ± 0.500"
    assert got["many"] == "10.0"  # one seed has it: no spread
    assert got["few"] == "n/a"
    assert got["p vs ce"] == ""
    assert got["chosen"] == "tau 1; tau 1.5; tau 2"
    assert dict(zip(header, lort, strict=True))["p vs ce"] == "0.030"
    assert lort[-1] == "method lort, gamma 0"
    assert lort[1] == "50.0"


def test_study_table_has_a_line_for_each_head():
    varied = [{"by": "SGD", "delta": 0.5, "gap": 2.0}, {"by": "SGD", "delta": 0.0, "gap": None}]
    rows = [row_of(chosen=values, few=None, balanced_accuracy=0.123) for values in varied]
    header, rule, *lines = cells(study_table(rows))
    assert header == [
        "by",
        "delta",
        "gap",
        *(title for title in COMPARISON_COLUMNS.values() if title != "seconds"),
    ]
    assert len(rule) == len(header)
    assert [line[:4] for line in lines] == [["SGD", "0.5", "2.0", "12.3"], ["SGD", "0.0", "n/a", "12.3"]]
    assert lines[0][header.index("few")] == "n/a"
