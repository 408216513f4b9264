"""Compare lort_hub with the usual programs on the same images and machine: accuracy and time.

python benchmarks/versus.py --output versus.jsonl

Whole processes (a, b, e) are timed from start to end with empty caches. Of heads (c, d) the fit alone is
timed, on the same cached features. Each comparison has five pairs of lort_hub and another program, run in
turn. Each line of the output file is one finished pair; a repeated command goes on after the last one.
"""

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median
from typing import Any

from contestants import HEADS, WHOLE, Job

from lort_hub.commands.arguments import flag
from lort_hub.commands.parser import parse_arguments

SHARED = Path(os.environ.get("LORT_TEST_DATA", "../shared"))
OURS = [name for name in WHOLE if name.startswith("ours")]
RIVALS = [name for name in WHOLE if name not in OURS]
REUSE_MEMORY = {"MALLOC_MMAP_MAX_": "0", "MALLOC_TRIM_THRESHOLD_": str(2**31 - 1)}
Runs = dict[str, dict[str, float]]


@dataclass
class Arguments:
    backbone: str = flag(f"local-dir:{SHARED / 'models' / 'tf_efficientnet_lite0'}", "As for retrain.py.")
    dataset: str = flag(str(SHARED / "data" / "caltech101"), "As for retrain.py.")
    imbalance: str | None = flag(None, "As for retrain.py.")
    image_size: int | None = flag(64, "Side of the input in pixels.")
    epochs: int = flag(20, "Of (a), (b) and (e).")
    measured: int = flag(20, "How many of those are run; the others count as much as these do on average.")
    batch_size: int = flag(64, "Of everyone.")
    num_workers: int = flag(2, "Decoding processes, of everyone.")
    channels_last: bool = flag(False, "Give (a) and (b) the memory layout that lort_hub's features use.")
    reuse_memory: bool = flag(True, "Give everyone the malloc settings that lort_hub's recipes set.")
    lr: float = flag(5e-4, "Of (a) and (b); the published one unless given.")
    delta: float = flag(0.98, "Label smoothing of the whole processes.")
    deltas: list[float] = flag([0.98, 0.9], "Label smoothing of the heads.")
    weight_decay: float = flag(1e-2, "Of the heads, and of ours where the settings are given.")
    pairs: int = flag(5, "Of each comparison.")
    only: list[str] = flag([], "Letters of the comparisons to make, such as a b; all unless given.")
    output: Path = flag(Path("versus.jsonl"), "Seconds, accuracies and objectives of every finished pair.")


def main() -> None:
    args = parse_arguments(Arguments, description=__doc__)
    names = Job.__dataclass_fields__.keys() & vars(args).keys()
    job = Job(**{name: getattr(args, name) for name in names})
    wanted = [f"({letter})" for letter in args.only] or ["("]
    finished = (
        [json.loads(line) for line in args.output.read_text().splitlines()] if args.output.exists() else []
    )
    environment = {**os.environ, **(REUSE_MEMORY if args.reuse_memory else {})}
    comparisons = [(rival, args.delta, whole) for rival in RIVALS]
    comparisons += [(rival, delta, heads) for rival in HEADS for delta in args.deltas]
    comparisons += [(rival, 0.0, heads) for rival in ("(c) LogisticRegression", "(d) torch.optim.LBFGS")]
    rows: dict[Callable[..., Runs], list[str]] = {whole: [], heads: []}
    with tempfile.TemporaryDirectory() as cache:
        for rival, delta, kind in comparisons:
            if not rival.startswith(tuple(wanted)):
                continue
            pairs = []
            for pair in range(args.pairs):
                one = Job(**{**asdict(job), "delta": delta, "ours_first": pair % 2 == 0})
                key = {"rival": rival, "pair": pair, "reuse_memory": args.reuse_memory, **asdict(one)}
                found = next((line["runs"] for line in finished if {**line, **key} == line), None)
                if found is None:
                    found = kind(one, rival, environment, cache)
                    with args.output.open("a") as file:
                        print(json.dumps({**key, "runs": found}), file=file)
                pairs.append(found)
            rows[kind] += told(rival, delta, pairs)
    columns = "s | accuracy | objective"
    print(f"| against | delta | {columns} | lort_hub | {columns} | times faster [spread] |")
    print("| --- " * 10 + "|")
    print(*rows[whole], *rows[heads], sep="\n")


def whole(job: Job, rival: str, environment: dict[str, str], _: str) -> Runs:
    """Run lort_hub and one other program, each in a process with empty caches."""
    runs = {}
    for name in [*OURS, rival] if job.ours_first else [rival, *OURS]:
        with tempfile.TemporaryDirectory() as cache:
            start = time.perf_counter()
            found = process(name, job, environment, cache)
            runs[name] = {"seconds": time.perf_counter() - start + found["left out"], **found}
    return runs


def heads(job: Job, rival: str, environment: dict[str, str], cache: str) -> Runs:
    """Run lort_hub and one other head in one process, on features that the first such process extracts."""
    found = process(rival, job, environment, cache)
    how = "closed form" if rival.endswith("RidgeClassifier") else "weight decay given"
    return {f"ours, {'weight decay chosen' if 'CV' in rival else how}": found["ours"], rival: found["theirs"]}


def process(name: str, job: Job, environment: dict[str, str], cache: str) -> dict[str, Any]:
    print(f"{name}, delta {job.delta}", file=sys.stderr)
    script = Path(__file__).with_name("contestants.py")
    caches = {"LORT_HUB_CACHE": cache, "HF_HOME": cache}
    done = subprocess.run(
        [sys.executable, script, name, json.dumps(asdict(job))],
        env={**environment, **caches}, check=True, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    result: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return result


def told(rival: str, delta: float, pairs: list[Runs]) -> list[str]:
    """Tabulate medians over the pairs, and the ratio of each pair."""

    def numbers(name: str) -> str:
        objective = [runs[name]["objective"] for runs in pairs if "objective" in runs[name]]
        return (
            f"{median(runs[name]['seconds'] for runs in pairs):.2f} | "
            f"{100 * median(runs[name]['accuracy'] for runs in pairs):.1f} | "
            f"{f'{median(objective):.7f}' if objective else ''}"
        )

    rows = []
    for name in pairs[0]:
        if name != rival:
            ratios = [runs[rival]["seconds"] / runs[name]["seconds"] for runs in pairs]
            ratio = f"{median(ratios):.3g} [{min(ratios):.3g}, {max(ratios):.3g}]"
            rows.append(f"| {rival} | {delta:g} | {numbers(rival)} | {name} | {numbers(name)} | {ratio} |")
    return rows


if __name__ == "__main__":
    main()
