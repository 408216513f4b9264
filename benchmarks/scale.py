"""Measure heads on synthetic features of iNaturalist's size: seconds, those of the products alone, memory.

python benchmarks/scale.py --store FOLDER --shape inat2018                 # closed form and its selection
python benchmarks/scale.py --store FOLDER --shape imagenet-lt --optimum    # the L-BFGS optimum too
python benchmarks/scale.py --store FOLDER --grow samples                   # three sizes (or classes)
python benchmarks/scale.py --store FOLDER --shape imagenet-lt --processes 2
python benchmarks/scale.py --store FOLDER --shape inat2018 --device cuda   # on a GPU, or one for each process

Every measurement is a process of its own, which reads the float16 features from disk in blocks.
"""

import argparse
import json
import os
import resource
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import torch

from lort_hub.commands.runtime import reuse_freed_memory
from lort_hub.data.transforms import EVAL_VIEW
from lort_hub.features.distributed import Processes
from lort_hub.features.matrix import BLOCK
from lort_hub.features.store import FeatureStore
from lort_hub.heads.cross_validation import Validator
from lort_hub.heads.fit import fit_head
from lort_hub.heads.methods import METHODS
from lort_hub.heads.search import select
from lort_hub.heads.solvers.eigenbasis import PANEL
from lort_hub.heads.solvers.objective import LORT_LOGIT_GAP, delta_for_gap
from lort_hub.heads.training_set import TrainingSet

SHAPES = {"inat2018": (437_513, 2048, 8142), "imagenet-lt": (115_846, 2048, 1000)}
GROWTH = {
    "samples": [(n, 2048, 1000) for n in (50_000, 100_000, 200_000)],
    "classes": [(100_000, 2048, k) for k in (1000, 2000, 4000)],
}
RATIO, DECAY = 256, 1e-3


def synthetic_store(folder: Path, n: int, dim: int, num_classes: int) -> FeatureStore:
    """Store non-negative features of decaying variance about class means, an exponential tail, float16."""
    content = {"synthetic": [n, dim, num_classes], "dtype": "float16"}
    store = FeatureStore.create(folder, content, num_samples=n)
    random = torch.Generator().manual_seed(0)
    profile = RATIO ** -torch.linspace(0, 1, num_classes, dtype=torch.float64)
    ends = (profile.cumsum(0) / profile.sum() * (n - num_classes)).round().long()
    counts = ends.diff(prepend=torch.zeros(1).long()) + 1
    labels = torch.arange(num_classes).repeat_interleave(counts)[torch.randperm(n, generator=random)]
    spread = (torch.arange(dim) + 10.0).rsqrt()
    means = torch.randn(num_classes, dim, generator=random) * spread
    for part in store.missing(EVAL_VIEW):
        rows = torch.tensor(store.rows(part))
        noise = torch.Generator().manual_seed(part)
        y = labels[rows]
        x = (means[y] + 2 * torch.randn(len(rows), dim, generator=noise) * spread + 0.3).relu_()
        store.save_part(EVAL_VIEW, part, x, y, rows, skipped=[])
    return store


def now() -> float:
    if torch.cuda.is_initialized():
        torch.cuda.synchronize()
    return time.perf_counter()


def seconds(call: Callable[[], object]) -> float:
    start = now()
    call()
    return now() - start


def bare_products(n: int, dim: int, num_classes: int, device: torch.device) -> dict[str, float]:
    """Time the matrix products alone: those of one float32 block in memory, times the number of blocks."""
    x, y = torch.rand(BLOCK, dim, device=device), torch.randint(num_classes, (BLOCK,), device=device)
    sums = x.new_zeros(num_classes, dim)

    def triangle() -> None:
        for first in range(0, dim, PANEL):
            x[:, first : first + PANEL].T @ x[:, first:]

    triangle()
    blocks, repeats = n / BLOCK, 20
    gram = x.T.double() @ x.double() + torch.eye(dim, device=device)
    right = torch.rand(dim, num_classes, dtype=torch.float64, device=device)
    torch.linalg.cholesky(gram)
    return {
        "Gram matrix": blocks / repeats * seconds(lambda: [triangle() for _ in range(repeats)]),
        "class sums": blocks / repeats * seconds(lambda: [sums.index_add_(0, y, x) for _ in range(repeats)]),
        "factorisation": seconds(lambda: torch.cholesky_solve(right, torch.linalg.cholesky(gram))),
    }


def bare_scores(training: TrainingSet, settings: int, gammas: int) -> dict[str, float]:
    """Time the products of leave-one-out alone: rotation and logits of the scored samples, factorisations."""
    scored, dim = int(training.scoring_mask.sum()), training.matrix.dim
    x, vectors = (torch.rand(rows, dim, device=training.device) for rows in (BLOCK, dim))
    weight = torch.rand(training.num_classes, dim, device=training.device)
    gram = (vectors.T @ vectors).double()
    blocks = scored / BLOCK
    x @ weight.T
    return {
        "rotations": gammas * blocks / 5 * seconds(lambda: [x @ vectors for _ in range(5)]),
        "logits": settings * blocks / 5 * seconds(lambda: [x @ weight.T for _ in range(5)]),
        "eigenvectors": gammas * seconds(lambda: torch.linalg.eigh(gram)),
    }


def measure(args: argparse.Namespace) -> None:
    """Take one measurement in this process and print it as JSON."""
    reuse_freed_memory()
    n, dim, num_classes = args.size
    processes, device = Processes(), torch.device(args.device)
    if args.device == "cuda":
        device = torch.device("cuda", int(os.environ.get("LOCAL_RANK", "0")))
        torch.cuda.set_device(device)
        torch.cuda.synchronize()  # starting CUDA is no part of the measurement
    if "WORLD_SIZE" in os.environ:
        torch.distributed.init_process_group("cpu:gloo,cuda:nccl" if args.device == "cuda" else "gloo")
        processes = Processes(torch.distributed.group.WORLD)
    store = FeatureStore(Path(args.folder))
    found: dict[str, object] = {}

    def load() -> TrainingSet:
        matrix, labels, _ = store.open(processes=processes)
        return TrainingSet(matrix.to(device), labels, num_classes)

    delta = delta_for_gap(LORT_LOGIT_GAP, num_classes)
    given = {"delta": delta, "gamma": 1.0, "weight_decay": DECAY / num_classes}
    cpu = time.process_time()
    start = now()
    if args.what == "closed form":
        training = load()
        found["read and class sums"] = now() - start
        fit_head(training, "lort", solver="closed-form", calibrate=False, **given)
    elif args.what == "optimum":
        training = load()
        fit = fit_head(training, "lort", calibrate=False, **given)
        found["iterations"] = fit.linear.iterations
        found["relative gradient"] = fit.linear.relative_gradient
    elif args.what == "selection":
        training = load()
        choice = select(Validator(training), METHODS["lort"])
        found |= {"settings": len(choice.candidates), "scored": int(training.scoring_mask.sum())}
    found["seconds"] = now() - start
    found["cpu"] = time.process_time() - cpu
    found["peak GB"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e9
    if args.device == "cuda":
        found["GPU GB"] = torch.cuda.max_memory_allocated() / 1e9
    if args.what == "closed form":
        found["bare"] = bare_products(n, dim, num_classes, device)
    elif args.what == "selection":
        gammas = len({tried["gamma"] for tried in choice.candidates})
        products = bare_products(n, dim, num_classes, device)
        each = {"Gram matrix": gammas * products["Gram matrix"], "class sums": products["class sums"]}
        found["bare"] = each | bare_scores(training, len(choice.candidates), gammas)
    elif args.what == "optimum":
        x, weight = (torch.rand(rows, dim, device=device) for rows in (BLOCK, num_classes))
        both = seconds(lambda: [(x @ weight.T).T @ x for _ in range(5)]) / 5 * n / BLOCK
        found["bare"] = {"one gradient": both, **bare_products(n, dim, num_classes, device)}
    if processes.index == 0:
        print(json.dumps(found))


def child(
    what: str,
    folder: Path,
    size: tuple[int, int, int],
    device: str,
    *,
    processes: int = 1,
    threads: int = 0,
) -> dict:
    """Take one measurement in one or several new processes."""
    command = [__file__, "--what", what, "--folder", str(folder), "--size", *map(str, size)]
    command += ["--device", device]
    launcher = [sys.executable]
    if processes > 1:
        launcher += ["-m", "torch.distributed.run", "--nproc_per_node", str(processes)]
    environment = {**os.environ, **({"OMP_NUM_THREADS": str(threads)} if threads else {})}
    finished = subprocess.run(
        [*launcher, *command], env=environment, stdout=subprocess.PIPE, text=True, check=True
    )
    return json.loads(finished.stdout.splitlines()[-1])


def row(title: str, size: tuple[int, int, int], found: dict) -> str:
    bare = sum(found["bare"].values())
    parts = ", ".join(f"{name} {value:.1f}" for name, value in found["bare"].items())
    extra = ", ".join(f"{name} {found[name]:.3g}" for name in KEPT if name in found)
    n, dim, num_classes = size
    return (
        f"| {title} | {n:,} x {dim}, K {num_classes:,} | {found['seconds']:.1f} | {found['cpu']:.1f} "
        f"| {bare:.1f} ({parts}) | {found['seconds'] / bare:.2f} | {found['peak GB']:.2f} | {extra} |"
    )


KEPT = ("settings", "scored", "iterations", "GPU GB")
"""What stands in a row's last column, where it was measured."""
HEADER = (
    "| what | features | s | CPU s | bare products, s | ratio | peak memory, GB | |\n" + "| --- " * 8 + "|"
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--store", type=Path, help="folder for the synthetic features (1.8 GB for iNaturalist's)"
    )
    parser.add_argument("--shape", choices=SHAPES)
    parser.add_argument("--grow", choices=GROWTH)
    parser.add_argument("--optimum", action="store_true")
    parser.add_argument("--processes", type=int, default=0)
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    for name in ("--what", "--folder"):
        parser.add_argument(name, help=argparse.SUPPRESS)
    parser.add_argument("--size", type=int, nargs=3, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.what:
        measure(args)
        return
    where = f"{os.cpu_count()} cores, {torch.get_num_threads()} threads"
    where += f", {torch.cuda.get_device_name()}" if args.device == "cuda" else ""
    print(f"torch {torch.__version__}, {where}\n\n{HEADER}")
    for size in GROWTH[args.grow] if args.grow else [SHAPES[args.shape]]:
        folder = synthetic_store(args.store, *size).folder
        if args.processes:
            for what in ("closed form", "optimum"):
                one = child(what, folder, size, args.device, threads=1)
                print(row(f"{what}, one process of one thread", size, one), flush=True)
                many = child(what, folder, size, args.device, processes=args.processes, threads=1)
                print(row(f"{what}, {args.processes} processes of one thread", size, many))
                work = many["seconds"] * args.processes / one["seconds"]
                print(f"\nwork per core: {work:.2f} times that of one process\n", flush=True)
            continue
        print(row("closed form", size, child("closed form", folder, size, args.device)), flush=True)
        if args.shape:
            found = child("selection", folder, size, args.device)
            print(row("selection by leave-one-out", size, found), flush=True)
        if args.optimum:
            print(row("L-BFGS optimum", size, child("optimum", folder, size, args.device)), flush=True)


if __name__ == "__main__":
    main()
