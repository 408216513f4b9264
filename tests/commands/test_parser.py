import dataclasses
import importlib.util
from pathlib import Path

import pytest

from lort_hub.commands.arguments import RunArguments, flag
from lort_hub.commands.parser import parse_arguments
from lort_hub.commands.retraining_arguments import RetrainingArguments
from lort_hub.errors import ConfigError
from lort_hub.heads.methods import METHODS
from tests.support import ROOT
from tests.support.recipes import refused

RECIPES = sorted((ROOT / "recipes").glob("*.py"))


@dataclasses.dataclass
class Arguments(RunArguments):
    groups: list[int] = flag([20, 100], "Two numbers.")
    delta: float | None = flag(None, "Label smoothing.")


def parse(*words):
    return parse_arguments(Arguments, words)


def parse_yaml(folder, text, *words):
    (folder / "run.yaml").write_text(text)
    return parse("--config", str(folder / "run.yaml"), *words)


def recipe_at(path):
    spec = importlib.util.spec_from_file_location(f"recipe_{path.stem}", path)
    recipe = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(recipe)
    return recipe


def test_command_line_wins_over_yaml_over_default(tmp_path):
    text = "seed: 3\nbatch-size: 16\nsubset_seed: 4\n"
    for words in (("--seed", "5"), ("--seed=5",)):
        args = parse_yaml(tmp_path, text, *words)
        assert (args.seed, args.batch_size, args.subset_seed, args.image_size) == (5, 16, 4, None)
    before = parse("--seed", "5", "--config", str(tmp_path / "run.yaml"))
    joined = parse("--seed", "5", f"--config={tmp_path / 'run.yaml'}")
    assert before == joined == args


@pytest.mark.parametrize(
    ("words", "flag"),
    [
        (("--dataset", ""), "--dataset"),
        (("--image-root= ",), "--image-root"),
        (("--seed", "3", "--groups", "1", " "), "--groups"),
        (("--config", ""), "--config"),
    ],
)
def test_an_empty_value_is_refused(words, flag):
    with pytest.raises(ConfigError, match=f"^{flag} has an empty value"):
        parse(*words)


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_no_number_may_be_negative_infinite_or_none(path):
    names, recipe = ("Arguments", "TrainingArguments", "RetrainingArguments"), recipe_at(path)
    kind = next(getattr(recipe, name) for name in names if hasattr(recipe, name))
    flags = dataclasses.fields(kind)
    needed = [one for one in flags if one.default is one.default_factory is dataclasses.MISSING]
    given = {one.name: ["a"] if "list" in str(one.type) else "a" for one in needed}
    accepted = []
    for one in flags:
        kinds = {part.strip() for part in getattr(one.type, "__name__", str(one.type)).split("|")}
        values = [-1.0] * bool(kinds & {"int", "float"}) + [float("inf"), float("nan")] * ("float" in kinds)
        for value in values:
            try:
                kind(**given, **{one.name: value})
                accepted.append((one.name, value))
            except ConfigError as error:
                assert one.name.replace("_", "-") in str(error).replace("_", "-")  # noqa: PT017
    assert accepted == []


def test_yaml_values_are_read_as_they_are_written(tmp_path):
    args = parse_yaml(
        tmp_path,
        "mixed_precision: no\nreport_to: none\nimbalance: exp:100\ndelta: 1e-3\nimage_size: null\n"
        "train_split:\ngroups: [10, 1_000]\ndataset: 010\noutput_dir: runs/a b\n",
    )
    assert (args.mixed_precision, args.report_to, args.imbalance) == ("no", "none", "exp:100")
    assert (args.delta, args.image_size, args.train_split, args.groups) == (1e-3, None, None, [10, 1000])
    assert (args.dataset, args.output_dir) == ("010", Path("runs/a b"))
    assert parse_yaml(tmp_path, "groups:\n- 1\n- 2\n").groups == [1, 2]
    assert parse_yaml(tmp_path, "# nothing\n") == parse()


@pytest.mark.parametrize(
    ("text", "words", "expected"),
    [
        ("", (), (True, False)),
        ("", ("--no-pretrained", "--overwrite"), (False, True)),
        ("", ("--no_pretrained",), (False, False)),
        ("pretrained: false\noverwrite: true\n", (), (False, True)),
        ("pretrained: no\n", (), (False, False)),
        ("pretrained: false\n", ("--pretrained",), (True, False)),
    ],
)
def test_booleans(tmp_path, text, words, expected):
    args = parse_yaml(tmp_path, text, *words)
    assert (args.pretrained, args.overwrite) == expected


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--bakbone", "resnet50"], "Unknown argument '--bakbone'. Did you mean '--backbone'"),
        (["--backbon=local-dir:/a/long/way/to/the/folder"], "Did you mean '--backbone'"),
        (["--output_dirs", "x"], "Did you mean '--output-dir'?"),
        (["resnet50"], "Unknown argument 'resnet50'."),
        (["--config"], "--config needs a file"),
        (["--config", "/nonexistent/run.yaml"], "Cannot read --config /nonexistent/run.yaml"),
        (["--config=/nonexistent/run.yaml"], "Cannot read --config /nonexistent/run.yaml"),
        (["--batch-size", "0"], "--batch-size is 0, expected at least 1."),
        (["--image-size", "0"], "--image-size is 0, expected at least 1."),
        (["--num-workers", "-1"], "--num-workers is -1, expected at least 0."),
        (["--seed", "-1"], "--seed is -1, expected at least 0."),
        (["--subset-seed", "-1"], "--subset-seed is -1, expected at least 0."),
        (["--seed", "x"], "--seed: invalid int value: 'x'"),
        (["--mixed-precision", "fp8"], "invalid choice: 'fp8'"),
        (["--device", "gpu"], "invalid choice: 'gpu' (choose from"),
        (["--device", "gpu"], "Did you mean 'cuda'?"),
        (["--device", "cp"], "Did you mean 'cpu'?"),
        (["--back", "resnet50"], "Unknown argument '--back'."),
        (["--config", "a.yaml", "--config=b.yaml"], "--config is given more than once."),
    ],
)
def test_wrong_command_line_is_exit_code_2(capsys, words, message):
    code, shown = refused(capsys, lambda: parse(*words))
    assert code == 2
    assert message in shown


@pytest.mark.parametrize("method", [name for name, method in METHODS.items() if not method.linear])
def test_a_method_whose_head_is_not_exported_is_shown_where_it_is_measured(capsys, method):
    code, shown = refused(capsys, lambda: parse_arguments(RetrainingArguments, ["--method", method]))
    assert code == 2
    assert "not linear, so it cannot be exported" in shown
    assert f"recipes/compare.py --methods {method}" in shown


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("bakbone: resnet50\n", r"Unknown key 'bakbone' in .*run.yaml. Did you mean 'backbone'\?"),
        ("batch size: 2\n", r"Unknown key 'batch size' in .*run.yaml. Did you mean 'batch_size'"),
        ("- seed\n", "holds a list, expected 'flag: value' lines"),
        ("seed\n", "holds a value, expected"),
        ("seed: [1\n", "Cannot read --config"),
        ("seed: 1\n\tbatch: 2\n", "Cannot read --config"),
        ("seed: -4\n", "--seed is -4, expected at least 0"),
        ("config: other.yaml\n", "Unknown key 'config'"),
        ("delta: 0\nseed: [1, 2]\n", "'seed' in line 2 of .*run.yaml holds a list, expected one value"),
        ("seed: {a: 1}\n", "'seed' in line 1 of .*run.yaml holds a mapping, expected one value"),
        ("groups: [1, [2]]\n", "'groups' in line 1 of .* holds a list, expected one value or a list"),
        ("seed: 1\ndelta: 0\nseed: 2\n", "'seed' is twice in .*run.yaml, in lines 1 and 3"),
        ("batch-size: 1\n\nbatch_size: 2\n", "'batch_size' is twice in .*run.yaml, in lines 1 and 3"),
    ],
)
def test_wrong_yaml_is_exit_code_2(tmp_path, capsys, text, message):
    with pytest.raises(ConfigError, match=message):
        parse_yaml(tmp_path, text)
    assert refused(capsys, lambda: parse_yaml(tmp_path, text))[0] == 2


def test_a_yaml_value_that_begins_with_a_hyphen_is_no_flag(tmp_path):
    assert parse_yaml(tmp_path, "dataset: -photos\n").dataset == "-photos"


def test_the_usage_of_a_benchmark_names_its_script(monkeypatch, capsys):
    monkeypatch.setattr("sys.argv", [str(ROOT / "benchmarks" / "paper.py")])
    with pytest.raises(SystemExit):
        parse("--help")
    assert capsys.readouterr().out.startswith("usage: python benchmarks/paper.py [flags]")


def test_yaml_that_is_no_text_is_refused(tmp_path):
    (tmp_path / "weights.yaml").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ConfigError, match="Cannot read --config"):
        parse("--config", str(tmp_path / "weights.yaml"))


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_every_flag_has_a_help_that_can_be_shown(path, capsys):
    recipe = recipe_at(path)
    shared = ("InputArguments", "ProcessArguments", "RunArguments", "FeatureArguments", "ModelArguments")
    named = [name for name in vars(recipe) if name.endswith("Arguments") and name not in shared]
    [arguments] = [getattr(recipe, name) for name in named]
    several = getattr(arguments, "SEVERAL_PROCESSES", False)
    assert several == (path.stem not in ("push", "demo", "audit", "adapt", "export", "prepare"))
    for field in dataclasses.fields(arguments):
        assert field.metadata["help"].strip().endswith("."), field.name
    with pytest.raises(SystemExit) as stop:
        parse_arguments(arguments, ["--help"], description=recipe.__doc__)
    shown = capsys.readouterr().out
    assert stop.value.code == 0
    flags = [f"  --{field.name.replace('_', '-')} " for field in dataclasses.fields(arguments)]
    assert [flag for flag in flags if f"{shown} ".replace("\n", " \n").count(flag) != 1] == []


@pytest.mark.parametrize(
    "words",
    [
        ["--delta", "1.5"],
        ["--gamma", "nan"],
        ["--weight-decay", "-1"],
        ["--views", "-1"],
        ["--bootstrap", "-1"],
        ["--groups", "100", "20"],
        ["--groups", "1", "2", "3"],
    ],
)
def test_retrain_refuses_what_is_out_of_range(words):
    with pytest.raises(ConfigError, match="expected"):
        parse_arguments(RetrainingArguments, words)


def test_a_misspelt_choice_is_one_message_with_a_suggestion():
    with pytest.raises(ConfigError, match="Did you mean 'shuffle'"):
        parse_arguments(RunArguments, ["--subset", "shufle"])
