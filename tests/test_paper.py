"""benchmarks/paper.py: the paper's experiments, and its claims as tests."""

import csv
import runpy
from types import SimpleNamespace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from scipy.stats import spearmanr
from torch.nn import Parameter

from tests.support import ROOT
from tests.support.fork_server import run_forks
from tests.support.images import noise_image
from tests.support.recipes import RUN_PATH

HEADS, CLAIMS = (
    SimpleNamespace(**runpy.run_path(str(ROOT / "benchmarks" / f"paper_{name}.py")))
    for name in ("heads", "claims")
)


def problem(num_views=3, n=150, dim=6, num_classes=4):
    generator = torch.Generator().manual_seed(0)
    labels = torch.randint(num_classes, (n,), generator=generator)
    views = [torch.randn(n, dim, generator=generator) + labels[:, None] / 2 for _ in range(num_views)]
    start = torch.randn(num_classes, dim, generator=generator), torch.randn(num_classes, generator=generator)
    return views, labels, start


def by_torch(views, labels, start, recipe, seed):
    """One head by torch's own optimiser, schedule and losses."""
    weight, bias = (Parameter(tensor.clone()) for tensor in start)
    optimizer = torch.optim.SGD([weight, bias], lr=recipe.lr, momentum=0.9, weight_decay=recipe.weight_decay)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, len(views))
    counts = torch.bincount(labels)
    prior = recipe.tau * (counts / len(labels)).log()
    generator = torch.Generator().manual_seed(seed)
    for x in views:
        if recipe.balanced:
            chances = (1 / counts.double())[labels]
            order = torch.multinomial(chances, len(labels), replacement=True, generator=generator)
        else:
            order = torch.randperm(len(labels), generator=generator)
        for batch in order.split(64):
            logits = F.linear(x[batch], weight, bias) + prior
            optimizer.zero_grad()
            F.cross_entropy(logits, labels[batch], label_smoothing=recipe.delta).backward()
            optimizer.step()
            if recipe.share < 1:
                weight.data = weight.data.renorm(2, 0, recipe.share * start[0].norm(dim=1).max().item())
        schedule.step()
    return weight.detach(), bias.detach()


def test_all_heads_at_once_are_each_head_alone_by_torch():
    views, labels, start = problem()
    fast = [
        HEADS.Recipe(r.name, r.delta, r.tau, r.balanced, r.share, 40 * r.lr, r.weight_decay)
        for r in HEADS.recipes()
    ]
    trained = HEADS.stage2(views, labels, start, fast, views[:2], labels, seed=3)
    assert trained.accuracies.shape == (len(fast), len(views), 2)
    moved = 0.0
    for row, recipe in enumerate(fast):
        weight, bias = by_torch(views, labels, start, recipe, 3)
        torch.testing.assert_close(trained.weight[row], weight, atol=1e-5, rtol=0)
        torch.testing.assert_close(trained.bias[row], bias, atol=1e-5, rtol=0)
        for test in (0, 1):
            right = F.linear(views[test], weight, bias).argmax(dim=1) == labels
            expected = np.mean([right[labels == k].double().mean() for k in range(4)])
            assert trained.accuracies[row, -1, test].item() == pytest.approx(expected, abs=1e-9)
        moved = max(moved, (weight - start[0]).abs().max().item())
    assert moved > 0.1


def test_balanced_accuracy_counts_classes_and_not_images():
    logits = torch.tensor([[[1.0, 0, 0]], [[1, 0, 0]], [[1, 0, 0]], [[1, 0, 0]]])
    assert HEADS.balanced_accuracies(logits, torch.tensor([0, 0, 0, 1])).tolist() == [0.5]


def test_the_published_head_is_the_one_of_the_paper():
    published = HEADS.recipes()[0]
    assert (published.name, published.delta, published.tau, published.lr) == ("LORT", 0.98, 0, 5e-4)
    assert (published.balanced, published.weight_decay) == (False, 0)
    assert len({recipe.name for recipe in HEADS.recipes()}) == len(HEADS.recipes())


def hits(share, labels, seed):
    return (np.random.default_rng(seed).random(len(labels)) < share).astype(float)


@pytest.mark.parametrize("guess", [lambda labels: labels == 2, lambda labels: hits(0.2, labels, 7)])
def test_nothing_is_decided_among_heads_that_are_no_better_than_chance(guess):
    labels = np.repeat(np.arange(5), 400)
    names = [recipe.name for recipe in HEADS.recipes()] + ["tau-norm, 1", "stage 1", "logit adjustment"]
    names += [
        f"{name}{suffix}" for name in ("LORT", "stage 1") for suffix in (" / 8", ", noise", " / 8, noise")
    ]
    right = {name: guess(labels).astype(float) for name in names}
    heads = np.full(12, 0.2)
    claims = list(CLAIMS.claims(right, labels))
    claims.append(CLAIMS.predicts_better("", np.arange(12.0), np.arange(12.0)[::-1], heads))
    assert {claim.verdict for claim in CLAIMS.judge(claims)} == {"undecided"}
    right["LORT"] = hits(0.6, labels, 100)
    verdicts = {claim.text: claim.verdict for claim in CLAIMS.judge(list(CLAIMS.claims(right, labels)))}
    assert verdicts["LORT is better than stage 1"] == "supported"


def test_claims_are_decided_by_the_images():
    labels = np.repeat(np.arange(5), 400)
    names = [recipe.name for recipe in HEADS.recipes()] + ["tau-norm, 1", "stage 1", "logit adjustment"]
    right = {name: hits(0.5, labels, k) for k, name in enumerate(names)}
    right["LORT"] = hits(0.6, labels, 100)
    right |= {"cRT": hits(0.75, labels, 101), "LORT, lr 0.0001": right["LORT"].copy()}
    right["LORT, lr 0.001"] = hits(0.4, labels, 102)
    for name in ("LORT", "stage 1"):
        right |= {f"{name} / 8": right[name], f"{name}, noise": hits(0.3, labels, 103)}
        right[f"{name} / 8, noise"] = right[f"{name}, noise"]
    verdicts = {claim.text: claim.verdict for claim in CLAIMS.judge(list(CLAIMS.claims(right, labels)))}
    assert verdicts["LORT is better than stage 1"] == "supported"
    assert verdicts["LORT is better than cRT"] == "not supported"
    assert verdicts["LORT is better than the best cRT on the test set, of 5 (cRT)"] == "not supported"
    assert verdicts["lr 0.0001 changes LORT by less than 1 point"] == "supported"
    assert verdicts["lr 0.001 changes LORT by less than 1 point"] == "not supported"
    alone = "dividing all logits of LORT by 8, and so LoMa, makes it more accurate"
    assert verdicts[alone] == "not supported"
    assert (
        verdicts["noise of half a logit's standard deviation costs LORT less than stage 1"] == "not supported"
    )


@pytest.mark.parametrize(
    ("low", "high", "verdict"),
    [
        (-0.009, 0.009, "supported"),
        (-0.02, 0.005, "undecided"),
        (0.002, 0.02, "undecided"),
        (0.011, 0.02, "not supported"),
        (-0.03, -0.02, "not supported"),
    ],
)
def test_no_change_is_claimed_of_the_whole_interval(low, high, verdict):
    assert CLAIMS.verdict_of_size(CLAIMS.Claim("robustness", "", (low + high) / 2, low, high, 1.0)) == verdict


def test_rank_correlations_are_those_of_scipy():
    rng = np.random.default_rng(0)
    values, others = rng.integers(5, size=(4, 12)), rng.normal(size=(4, 12))
    expected = [spearmanr(*pair).statistic for pair in zip(values, others, strict=True)]
    np.testing.assert_allclose(CLAIMS.rank_correlations(values, others), expected)
    assert CLAIMS.rank_correlations(np.ones((1, 5)), rng.normal(size=(1, 5))).tolist() == [0.0]


def test_the_better_predictor_is_found_and_one_of_the_wrong_sign_is_none():
    rng = np.random.default_rng(0)
    target = rng.normal(size=60)
    noise = rng.normal(size=60)
    claim = CLAIMS.predicts_better("", target, noise, target)
    assert claim.value > 0.5
    assert CLAIMS.judge([claim])[0].verdict == "supported"
    for one, other in ((noise, target), (-target, noise)):
        claim = CLAIMS.predicts_better("", one, other, target)
        assert CLAIMS.judge([claim])[0].verdict == "not supported"


def test_logits_magnitude_is_of_one_half_of_the_test_images_and_the_accuracy_of_the_other(monkeypatch):
    monkeypatch.syspath_prepend(ROOT / "benchmarks")
    claims = runpy.run_path(str(ROOT / "benchmarks" / "paper.py"))["magnitude_claims"]

    def report(evenness, accuracy):
        """A report whose logits magnitude is the more even, and whose norms the less, the larger a number."""
        rates = [accuracy + 0.01 * k for k in range(9)]
        magnitude = SimpleNamespace(mean=1.0, std=1 - evenness, per_class=rates)
        norm = SimpleNamespace(mean=1.0, std=evenness, per_class=rates[::-1])
        return SimpleNamespace(
            logits_magnitude=magnitude, weight_norm=norm, balanced_accuracy=accuracy, per_class_accuracy=rates
        )

    steps = np.linspace(0.1, 0.9, 12)
    halves = {f"head {k}": (report(step, 0.0), report(0.0, step)) for k, step in enumerate(steps)}
    heads, classes = claims({"stage 1": (report(0.05, 0.0), report(0.0, 0.05)), **halves})
    assert (heads.value, classes.value) == pytest.approx((2.0, 2.0))  # rho of 1 against -1


FLAGS = ("--imbalances", "4", "--backbone", "resnet32_cifar", "--epochs", "2", "--stage2-epochs", "2")
FLAGS += ("--seeds", "2", "--num-workers", "0")


def paper(folder, *flags, **options):
    code = f"import sys; sys.path.insert(0, {str(ROOT / 'benchmarks')!r})\n{RUN_PATH}"
    argv = [ROOT / "benchmarks" / "paper.py", *FLAGS, "--dataset", folder / "photos", *flags]
    return run_forks(
        {"code": code, "argv": argv, "cwd": folder, "environment": {}, "merged": True, **options}
    )[0]


# The fork server counts file operations below folders of these names, and kills at one of them.


def test_stopped_and_killed_it_goes_on_to_the_same_tables(tmp_path):
    refused = paper(tmp_path, "--output-dir", "misspelt")
    assert (refused.returncode, "photos" in refused.said) == (1, True), refused.said
    assert not (tmp_path / "misspelt").exists()
    for split, number in (("train", 24), ("test", 6)):
        for k in range(3):
            (tmp_path / "photos" / split / f"c{k}").mkdir(parents=True)
            for i in range(number):
                image = noise_image(1000 * k + 30 * i + number, (32, 32))
                image.save(tmp_path / "photos" / split / f"c{k}" / f"{i:02}.png")
    refused = paper(tmp_path, "--output-dir", "misspelt", "--backbone", "resnet23_cifar")
    assert (refused.returncode, "resnet32_cifar" in refused.said) == (1, True), refused.said
    assert not (tmp_path / "misspelt").exists()
    alone = paper(tmp_path, "--output-dir", "alone-unfinished")
    assert alone.returncode == 0, alone.said
    rows = list(csv.DictReader((tmp_path / "alone-unfinished" / "results.csv").read_text().splitlines()))
    assert [row["run"] for row in rows if row["head"] == "LORT"] == ["0", "1"]
    assert {"stage 1", "auto, exact", "cRT"} < {row["head"] for row in rows}
    assert "Left" not in alone.said

    stopped = paper(tmp_path, "--output-dir", "parts-unfinished", "--minutes", "0.001")
    assert stopped.returncode == 75, stopped.said
    assert "Left: IR 4: stage 1 after epoch 0 of 2, 2 of 2 seeds of stage 2." in stopped.said
    killed = paper(tmp_path, "--output-dir", "parts-unfinished", "--resume", kill_at=round(0.8 * alone.seen))
    assert killed.returncode == -9, killed.said
    names = {path.name for path in (tmp_path / "parts-unfinished").iterdir()}
    assert {"stage1-IR4", "features"} <= names
    assert "results.csv" not in names
    assert paper(tmp_path, "--output-dir", "parts-unfinished").returncode == 1
    other = paper(tmp_path, "--output-dir", "parts-unfinished", "--resume", "--seeds", "3")
    assert other.returncode == 1
    assert "seeds 2 -> 3" in other.said
    resumed = paper(tmp_path, "--output-dir", "parts-unfinished", "--resume")
    assert resumed.returncode == 0, resumed.said
    for name in ("results.csv", "claims.csv", "results.md"):
        assert (tmp_path / "parts-unfinished" / name).read_text() == (
            tmp_path / "alone-unfinished" / name
        ).read_text(), name
