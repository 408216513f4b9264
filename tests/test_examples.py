"""The notebooks in examples/ run from a clean kernel, and show what they say."""

import json
import os
import re
import subprocess
import sys

import pytest

from tests.support import ROOT
from tests.support.hub_server import WRITE, serve
from tests.support.models import timm_folder

NOTEBOOKS = sorted((ROOT / "examples").glob("*.ipynb"))

# As papermill does: what follows the cell of the parameters wins over it.
EXECUTE = """
import json, sys
import nbformat
from nbclient import NotebookClient
source, folder, parameters = sys.argv[1], sys.argv[2], json.loads(sys.argv[3])
notebook = nbformat.read(source, as_version=4)
[place] = [k for k, cell in enumerate(notebook.cells) if "parameters" in cell.metadata.get("tags", [])]
values = "\\n".join(f"{name} = {value!r}" for name, value in parameters.items())
notebook.cells.insert(place + 1, nbformat.v4.new_code_cell(values))
NotebookClient(notebook, timeout=300, resources={"metadata": {"path": folder}}).execute()
nbformat.write(notebook, f"{folder}/executed.ipynb")
"""


def execute(name, folder, parameters=None, **environment):
    """Run a notebook on a small backbone; the outputs of its cells, each as one text."""
    for package in ("nbclient", "ipykernel"):
        pytest.importorskip(package, reason=f"{package} is not installed")
    parameters = {"backbone": str(timm_folder(folder / "backbone")), "image_size": None, **(parameters or {})}
    command = [sys.executable, "-c", EXECUTE, ROOT / "examples" / f"{name}.ipynb", folder]
    own = {"PYTHONPATH": str(ROOT), "IPYTHONDIR": str(folder / "ipython"), **environment}
    command.append(json.dumps(parameters))
    done = subprocess.run(command, capture_output=True, text=True, env={**os.environ, **own}, timeout=400)
    assert done.returncode == 0, done.stderr[-3000:]
    cells = json.loads((folder / "executed.ipynb").read_text())["cells"]
    return [said for cell in cells if cell["cell_type"] == "code" for said in outputs_of(cell)]


def outputs_of(cell):
    for output in cell["outputs"]:
        if output.get("name") == "stderr":
            continue
        data = output.get("data", {})
        shown = data.get("text/markdown", data.get("text/plain", output.get("text", "")))
        yield "".join(shown) + " (a picture)" * ("image/png" in data)


def rows_of(table):
    """Rows of a Markdown table, by their first cell."""
    lines = [line for line in table.splitlines() if line.startswith("|")]
    header, _, *rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
    return {row[0]: dict(zip(header, row, strict=True)) for row in rows}


@pytest.mark.parametrize("notebook", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_is_stripped_and_the_readme_leads_to_it(notebook):
    cells = json.loads(notebook.read_text())["cells"]
    for cell in cells:
        if cell["cell_type"] == "code":
            assert (cell["outputs"], cell["execution_count"]) == ([], None)
    assert f"(examples/{notebook.name})" in (ROOT / "README.md").read_text()


def test_the_quick_start_ends_with_a_classifier_of_the_folder(tmp_path):
    said = execute("quick_start", tmp_path)
    assert "10 classes (100 to 5 each" in said[0]
    [table] = [rows_of(text) for text in said if text.startswith("| head")]
    assert set(table) == {"ce", "lort"}
    metrics = json.loads((tmp_path / "out/photos/metrics.json").read_text())
    assert table["lort"]["balanced"] == f"{100 * metrics['test']['balanced_accuracy']:.1f}"
    assert any(text.endswith("(a picture)") for text in said)
    probabilities = [float(number) for number in re.findall(r": ([\d.]+)", said[-1])]
    assert len(probabilities) == 3
    assert probabilities == sorted(probabilities, reverse=True)


def test_the_comparison_has_a_row_for_each_method_and_a_plot(tmp_path):
    said = execute("comparison", tmp_path, {"methods": ["ce", "ncm", "lort"], "seeds": [0, 1]})
    assert said[0].startswith("1297 training and 500 test images, ")
    [table] = [rows_of(text) for text in said if text.startswith("| method")]
    assert list(table) == ["ce", "ncm", "lort"]
    for row in table.values():
        assert re.fullmatch(r"\d+\.\d ± \d+\.\d", row["balanced"]), row
        assert 20 < float(row["balanced"].split()[0]) < 100
    assert said[-1].endswith("(a picture)")


def test_the_publication_is_on_the_hub_and_loads_from_it(tmp_path):
    with serve(tmp_path / "hub") as hub:
        where = {"HF_ENDPOINT": hub.endpoint, "HF_HOME": str(tmp_path / "home"), "HF_TOKEN": WRITE}
        said = "".join(execute("publish", tmp_path, **where))
        for name, kind in [("", "models"), ("-head", "models"), ("-demo", "spaces")]:
            assert hub.repo(f"me/lort-hub-example{name}", kind).private
        commit = hub.repo("me/lort-hub-example").at("main").oid
    assert f"{hub.endpoint}/me/lort-hub-example {commit}" in said
    answers = [re.search(rf"{name}: (\d) ([\d.]+)", said).groups() for name in ("timm", "transformers")]
    assert answers[0] == answers[1]
    assert "the head alone: (10, " in said
    assert f"{hub.endpoint}/spaces/me/lort-hub-example-demo" in said
