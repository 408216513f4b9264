"""Compare the main methods on one set of frozen features with retrain.py; its flags are passed on.

python benchmarks/heads.py --backbone local-dir:FOLDER --dataset FOLDER --output-dir out/heads
"""

import json
import subprocess
import sys
from pathlib import Path

from lort_hub.evaluation.tables import results_table

METHODS = ("ce", "lort", "lort-published", "balanced-softmax")
RECIPE = Path(__file__).parents[1] / "recipes" / "retrain.py"


def main() -> None:
    flags = sys.argv[1:]
    at = flags.index("--output-dir")
    root = Path(flags[at + 1])
    flags = flags[:at] + flags[at + 2 :]
    reports = {}
    for method in METHODS:
        folder = root / method
        command = [sys.executable, RECIPE, *flags, "--method", method, "--output-dir", folder, "--overwrite"]
        subprocess.run(command, check=True)
        metrics = json.loads((folder / "metrics.json").read_text())
        baseline = json.loads((folder / "run.json").read_text())["baseline"]
        if baseline:
            reports[baseline["name"]] = metrics["baseline"]
        reports[method] = metrics["test"]
    print(results_table(reports))


if __name__ == "__main__":
    main()
