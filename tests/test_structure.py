import ast
import functools
import importlib
import importlib.metadata
import json
import re
import runpy
import subprocess
import sys
from graphlib import TopologicalSorter

import pytest

import lort_hub
from lort_hub.experiments.ablations import STUDIES
from lort_hub.heads.fitters import FITTERS
from lort_hub.heads.methods import METHODS, SELECT_BY
from lort_hub.heads.scorers import SCORERS
from tests.support import ROOT

RECIPES = sorted((ROOT / "recipes").glob("*.py"))

HEAVY = (
    "torch",
    "timm",
    "transformers",
    "datasets",
    "accelerate",
    "matplotlib",
    "huggingface_hub",
    "sklearn",
)

IMPORT = """
import sys
seen = []
sys.addaudithook(lambda event, args: event.startswith(("socket.", "subprocess.")) and seen.append(event))
import {module}
import json
print(json.dumps([sorted(set({heavy}) & set(sys.modules)), seen]))
"""


def after_import(module):
    """Heavy packages loaded, and sockets and processes opened, by importing a module."""
    code = IMPORT.format(module=module, heavy=HEAVY)
    command = [sys.executable, "-W", "error", "-c", code]
    finished = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, timeout=120, check=True)
    return json.loads(finished.stdout)


@pytest.mark.parametrize(
    "module",
    [
        "lort_hub",
        "lort_hub.commands.arguments",
        "lort_hub.commands.main",
        "lort_hub.commands.parser",
        "lort_hub.commands.runtime",
        "lort_hub.data.benchmark_images",
        "lort_hub.errors",
        "lort_hub.heads.methods",
    ],
)
def test_import_is_light_and_quiet(module):
    assert after_import(module) == [[], []]


ANSWERS = """
import contextlib, io, json, runpy, sys
heavy = {"torch", "torchvision", "timm", "datasets", "accelerate", "matplotlib", "sklearn", "scipy", "pandas"}
answers = {}
for flag in ("--help", "--halp"):
    sys.argv = [sys.argv[0], flag]
    with contextlib.redirect_stdout(io.StringIO()) as said, contextlib.redirect_stderr(said):
        try:
            runpy.run_path(sys.argv[0], run_name="__main__")
        except SystemExit as end:
            answers[flag] = end.code, said.getvalue(), sorted(heavy & set(sys.modules)), len(sys.modules)
print(json.dumps(answers))
"""


@functools.cache
def answers(path):
    """Exit code, text and what had been imported, by flag, of a recipe in a process of its own."""
    script = f"import sys; sys.argv = [{str(path)!r}]\n{ANSWERS}"
    finished = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, cwd=ROOT)
    assert finished.returncode == 0, finished.stderr
    return json.loads(finished.stdout)


@pytest.mark.parametrize(("flag", "code"), [("--help", 0), ("--halp", 2)])
@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_help_and_a_mistyped_flag_are_answered_before_heavy_imports(path, flag, code):
    exit_code, said, heavy, modules = answers(path)[flag]
    assert (exit_code, heavy) == (code, []), said
    assert "--help" in said
    assert modules < 1000  # 580 seen; torch alone is more than a thousand


def test_names_that_flags_offer_are_those_of_what_they_name():
    assert tuple(SCORERS) == SELECT_BY
    assert runpy.run_path(str(ROOT / "recipes" / "sweep.py"))["STUDIES"] == tuple(STUDIES)
    for method in METHODS.values():
        assert method.fitter in FITTERS


def test_no_recipe_bears_the_name_of_a_module_that_it_would_shadow():
    modules = set(sys.stdlib_module_names) | set(importlib.metadata.packages_distributions())
    assert {path.stem for path in RECIPES} & modules == set()


def test_public_names_resolve_and_are_few():
    assert len(lort_hub.__all__) == len(set(lort_hub.__all__)) <= 13
    assert set(lort_hub.__all__) <= set(dir(lort_hub))
    for name in dir(lort_hub):
        assert getattr(lort_hub, name) is not None or name.startswith("__")
    for name in lort_hub.__all__:
        found = getattr(lort_hub, name)
        assert (found.__name__, found.__module__.partition(".")[0]) == (name, "lort_hub")
        assert found.__doc__


def test_public_names_are_those_of_their_modules():
    namespace = {}
    exec("from lort_hub import *", namespace)
    assert set(lort_hub.__all__) <= set(namespace)
    assert namespace["evaluate"] is importlib.import_module("lort_hub.evaluation.metrics").evaluate


def test_unknown_attribute_is_named():
    with pytest.raises(AttributeError, match="module 'lort_hub' has no attribute 'fit_heads'"):
        lort_hub.fit_heads  # noqa: B018
    assert not hasattr(lort_hub, "np")


def modules():
    """Every module of the package, by its dotted name."""
    paths = [path.relative_to(ROOT).with_suffix("") for path in (ROOT / "lort_hub").rglob("*.py")]
    return {".".join(path.parts).removesuffix(".__init__"): path for path in paths}


def test_importing_everything_reaches_for_no_network():
    assert len(modules()) > 60
    _, seen = after_import(", ".join(modules()))
    assert not {"socket.connect", "socket.getaddrinfo", "socket.bind"} & set(seen)


FOLDERS = ("", "data", "backbones", "features", "training", "heads.solvers", "heads")
FOLDERS += ("evaluation", "audit", "experiments", "hub", "classifiers", "commands")


def imports_of(path):
    """Modules of the package that a file imports anywhere: at its top, in functions, for type checkers."""
    for node in ast.walk(ast.parse((ROOT / path).with_suffix(".py").read_text())):
        if isinstance(node, ast.ImportFrom) and node.module.split(".")[0] == "lort_hub":
            below = [f"{node.module}.{alias.name}" for alias in node.names]
            yield from (name if name in modules() else node.module for name in below)
        elif isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name.split(".")[0] == "lort_hub")


def folder_of(module):
    inside = module.removeprefix("lort_hub").strip(".")
    return max((name for name in FOLDERS if f"{inside}.".startswith(f"{name}." if name else "")), key=len)


def test_each_folder_imports_only_those_before_it():
    backwards = [
        (module, other)
        for module, path in modules().items()
        for other in imports_of(path)
        if FOLDERS.index(folder_of(other)) > FOLDERS.index(folder_of(module))
    ]
    assert backwards == []


def test_no_module_imports_itself_through_others():
    TopologicalSorter({module: imports_of(path) for module, path in modules().items()}).prepare()


NO_MODULE_OF_THEIR_NAME = {
    "tests/data/test_annotation_inputs.py": "annotations of images",
    "tests/data/test_archive_inputs.py": "archives",
    "tests/data/test_class_inputs.py": "class folders",
    "tests/data/test_dataset_inputs.py": "tables in files, splits and configurations",
    "tests/data/test_feature_inputs.py": "features beside class folders",
    "tests/data/test_file_inputs.py": "files and their names",
    "tests/data/test_folders_as_published.py": "folders and lists of published data sets",
    "tests/data/test_folders_from_elsewhere.py": "folders as other people name and pack them",
    "tests/data/test_label_inputs.py": "columns of labels",
    "tests/data/test_list_inputs.py": "lists of image files",
    "tests/data/test_list_lines.py": "lines of lists",
    "tests/data/test_list_rows.py": "images that several rows or lists name",
    "tests/data/test_lists_in_other_forms.py": "lists, manifests and cards",
    "tests/data/test_picture_inputs.py": "pictures",
    "tests/data/test_lists_and_folders.py": "lists of labels beside folders",
    "tests/data/test_lists_read_as_before.py": "all kinds of lists",
    "tests/data/test_masks.py": "masks beside pictures",
    "tests/data/test_saved_sets.py": "folders that datasets has saved",
    "tests/data/test_several_archives.py": "several archives of one data set",
    "tests/data/test_sets_of_splits.py": "splits of several sets",
    "tests/data/test_split_columns.py": "columns that tell splits",
    "tests/data/test_split_inputs.py": "splits of folders",
    "tests/data/test_table_inputs.py": "columns of tables",
    "tests/data/test_tables_from_elsewhere.py": "lists and tables as other programs write them",
    "tests/data/test_unseen_inputs.py": "inputs of every kind near to those that were tried",
    "tests/test_structure.py": "the package as a whole",
    "tests/test_paper.py": "benchmarks/paper.py",
    "tests/test_results.py": "docs/results.md",
    "tests/test_docs.py": "README.md and docs/",
    "tests/test_examples.py": "examples/",
    "tests/test_wheel.py": "the built wheel",
    "tests/backbones/test_model_inputs.py": "folders of models",
    "tests/hub/test_model_cards.py": "model_cards/",
    "tests/recipes/test_resume.py": "train.py killed and started again",
}


def test_each_test_file_lies_where_what_it_tests_lies():
    files = {str(path.relative_to(ROOT)) for path in (ROOT / "tests").rglob("test_*.py")}
    assert files >= NO_MODULE_OF_THEIR_NAME.keys()
    tested = {file: file.replace("tests/", "", 1).replace("test_", "", 1) for file in files}
    homes = {file: (ROOT / name, ROOT / "lort_hub" / name) for file, name in tested.items()}
    homeless = {file for file, homes in homes.items() if not any(home.exists() for home in homes)}
    assert homeless == NO_MODULE_OF_THEIR_NAME.keys()


def test_no_test_module_imports_another():
    for path in (ROOT / "tests").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Import | ast.ImportFrom):
                named = [getattr(node, "module", None) or "", *(alias.name for alias in node.names)]
                assert not [name for name in named if re.search(r"(^|\.)(test_|conftest)", name)], path


def test_the_library_names_arguments_and_only_the_commands_spell_flags():
    spelt = {}
    for module, path in modules().items():
        if not module.startswith("lort_hub.commands"):
            spelt[module] = re.findall(
                r"(?<![\w-])--[a-z][\w-]*", (ROOT / path).with_suffix(".py").read_text()
            )
    assert {module: flags for module, flags in spelt.items() if flags} == {}


DISTRIBUTIONS = {
    "PIL": "pillow",
    "jinja2": "Jinja2",
    "pillow_heif": "pillow-heif",
    "sklearn": "scikit-learn",
    "yaml": "PyYAML",
}
"""Names on PyPI of the packages whose name differs from that of their module."""


def third_party_imports():
    """Distributions whose modules the package or a recipe imports anywhere."""
    for path in [*(ROOT / "lort_hub").rglob("*.py"), *RECIPES]:
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ImportFrom):
                names = [node.module]
            elif isinstance(node, ast.Import):
                names = [alias.name for alias in node.names]
            else:
                continue
            for name in {name.split(".")[0] for name in names} - sys.stdlib_module_names - {"lort_hub"}:
                yield DISTRIBUTIONS.get(name, name)


def requirements(lines):
    return {re.match(r"[\w-]+", line)[0] for line in lines}


def test_declared_dependencies_are_those_imported():
    tomllib = pytest.importorskip("tomllib", reason="Python 3.11's")
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"]
    optional = requirements([*extras["demo"], *extras["heic"], *extras["lora"], *extras["onnx"]])
    assert set(third_party_imports()) == requirements(project["dependencies"]) | optional


def test_no_file_names_a_document_that_is_not_in_the_repository():
    outside = re.compile(r"\b(PAPER|DESIGN|HOUSE|CASES)(\.md| section)")
    folders = ("lort_hub", "recipes", "benchmarks", "tests", "docs", "model_cards")
    paths = [path for folder in folders for path in (ROOT / folder).rglob("*")]
    files = [path for path in paths if path.suffix in (".py", ".md", ".yaml")]
    assert len(files) > 150
    files += [*ROOT.glob("*.md"), ROOT / "pyproject.toml"]
    assert [path for path in files if outside.search(path.read_text())] == []


VERBS = """
Add Adjust Align Append Apply Assign Build Calibrate Centre Change Check Choose Collect Combine Compare
Compute Convert Copy Correct Correlate Count Create Cut Decide Declare Decode Define Delete Describe
Diagonalise Divide Download Enable Escape Estimate Explain Extract Fill Find Fit Flush Fold Format Gather
Give Group Hash Hold Import Join Keep Learn Leave Let List Load Log Look Make Map Mark Measure Minimise
Multiply Name Normalise Number Open Pad Parse Plot Predict Push Put Quote Raise Re-train Read Record
Refuse Render Replace Resolve Restore Retry Return Run Save Say Score Search Seed Select Shorten Solve
Sort Spell Split Stack Start Store Subtract Sum Take Tell Test Time Train Translate Turn Unpack Vary Walk
Weight Write
"""
"""First words of the docstrings of modules and functions."""


def summaries(module, path):
    """Name, kind and first line of each public module, class, function and method of a module."""
    pending = [(module, "module", ast.parse((ROOT / path).with_suffix(".py").read_text()))]
    while pending:
        name, kind, node = pending.pop()
        yield name, kind, (ast.get_docstring(node) or "").partition("\n")[0]
        for child in [] if isinstance(node, ast.FunctionDef) else node.body:
            if isinstance(child, ast.ClassDef | ast.FunctionDef) and not child.name.startswith("_"):
                decorators = {ast.unparse(decorator) for decorator in child.decorator_list}
                is_noun = isinstance(child, ast.ClassDef) or decorators & {"property", "cached_property"}
                pending.append((f"{name}.{child.name}", "noun" if is_noun else "function", child))


def test_first_lines_are_sentences_that_begin_with_what_is_done():
    lines = [summary for module, path in modules().items() for summary in summaries(module, path)]
    assert [(name, line) for name, _, line in lines if not line.endswith(".")] == []
    begun = {name: re.split(r"[ ,]", line)[0] for name, kind, line in lines if kind != "noun"}
    assert {name: word for name, word in begun.items() if word not in VERBS.split()} == {}
    assert set(begun.values()) == set(VERBS.split())
