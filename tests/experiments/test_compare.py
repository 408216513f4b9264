from lort_hub.experiments.compare import each_method
from lort_hub.heads.best import fit_best
from lort_hub.heads.fit import fit_head
from lort_hub.heads.fitted import stage1_fit
from lort_hub.heads.methods import BEST_OF, STACKED
from lort_hub.heads.stack import fit_stack
from tests.support.features import clusters


def test_methods_come_in_the_order_asked_and_then_the_sum_and_the_choice_of_them():
    training, _ = clusters(counts=(30, 12, 5), dim=4)
    baseline = fit_head(training, "ce")
    told = list(each_method(training, baseline, ["lort", "auto", "ncm", "best"], by=None, seed=0))
    assert [name for name, _, _ in told] == ["lort", "ncm", "auto", "best"]
    fits, seconds = {name: fit for name, fit, _ in told}, {name: time for name, _, time in told}
    best = fit_best(training, baseline=baseline)
    assert fits["best"].method == best.method
    assert fits["best"].settings == best.settings
    assert fits["best"].weight.equal(best.weight)
    known = [fit_head(training, name, baseline=baseline) for name in STACKED if name != "ce"]
    stack = fit_stack(training, baseline=baseline, known=known)
    assert fits["auto"].settings == stack.settings
    assert fits["auto"].weight.equal(stack.weight)
    assert fits["lort"].weight.equal(fit_head(training, "lort").weight)
    assert seconds["auto"] > seconds["lort"]  # it is one of those tried
    assert "lort" in BEST_OF


def test_the_backbone_s_own_head_is_a_row_and_the_start_of_others():
    training, _ = clusters(counts=(30, 12, 5), dim=4)
    own = stage1_fit(*fit_head(training, "ncm").as_solved)
    told = list(each_method(training, own, ["linear-adjust"], by="balanced-accuracy", seed=0))
    assert [name for name, _, _ in told] == ["stage 1", "linear-adjust"]
    assert told[0][1] is own
    assert told[1][1].as_solved[0].equal(own.weight)
