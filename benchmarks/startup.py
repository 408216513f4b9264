"""Measure the seconds of --help, imports and each phase of retrain.py; its flags are passed on.

python benchmarks/startup.py --backbone local-dir:FOLDER --dataset FOLDER --gamma 1 --weight-decay 5e-4

The cold run starts with an empty cache. The warm run finds all features and heads in it, but not the head of
its own settings.
"""

import json
import os
import resource
import subprocess
import sys
import time
from pathlib import Path
from tempfile import TemporaryDirectory

RECIPES = sorted((Path(__file__).parents[1] / "recipes").glob("*.py"))
IMPORTS = ("lort_hub", "transformers", "torch", "timm")
OTHER_SETTINGS = ("--gamma", "0.5", "--weight-decay", "1e-3")
REPEATS = 3


def seconds(*words: object, **environment: str) -> tuple[float, float]:
    """Measure wall and CPU seconds of a Python process with these arguments."""
    before, start = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    command = [sys.executable, *map(str, words)]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, env={**os.environ, **environment})
    wall, after = time.perf_counter() - start, resource.getrusage(resource.RUSAGE_CHILDREN)
    return wall, after.ru_utime - before.ru_utime + after.ru_stime - before.ru_stime


def starts() -> None:
    commands = {f"{path.name} --help": (path, "--help") for path in RECIPES}
    commands |= {f"import {name}": ("-c", f"import {name}") for name in IMPORTS}
    print(f"| least of {REPEATS} runs | wall, s | CPU, s |\n|---|---|---|")
    for name, words in commands.items():
        wall, cpu = map(min, zip(*(seconds(*words) for _ in range(REPEATS)), strict=True))
        print(f"| {name} | {wall:.2f} | {cpu:.2f} |", flush=True)


def refits(flags: list[str]) -> None:
    runs = {}
    retrain = next(path for path in RECIPES if path.stem == "retrain")
    with TemporaryDirectory() as folder:
        for name, more in (("cold", ()), ("warm", OTHER_SETTINGS)):
            out = Path(folder) / name
            words = (retrain, *flags, *more, "--output-dir", out)
            wall, cpu = seconds(*words, LORT_HUB_CACHE=f"{folder}/cache")
            phases = json.loads((out / "metrics.json").read_text())["timing"]
            rest = {"output, exit": wall - sum(phases.values()), "in all": wall, "in all, CPU": cpu}
            runs[name] = {**phases, **rest}
    print(f"\n| phase | {' | '.join(f'{name}, s' for name in runs)} |\n|---|{'---|' * len(runs)}")
    for phase in runs["cold"]:
        print(f"| {phase} | {' | '.join(f'{run[phase]:.2f}' for run in runs.values())} |")


if __name__ == "__main__":
    starts()
    refits(sys.argv[1:])
