"""`scionlab explain`: models from the user's own files."""

import json
import subprocess
import sys

import pytest
from typer.testing import CliRunner

from scionlab.cli import app, main

MODELS = """from torch import nn


class Model(nn.Module):
    def __init__(self, width=8):
        super().__init__()
        self.embed = nn.Embedding(11, width)
        layer = nn.TransformerEncoderLayer(width, nhead=2, dim_feedforward=16)
        self.encoder = nn.TransformerEncoder(layer, 1, enable_nested_tensor=False)
        self.head = nn.Linear(width, 11)
        self.head.bias.requires_grad_(False)


class Fused(nn.Module):
    def __init__(self):
        super().__init__()
        self.layers = nn.ModuleList(Conv1D() for _ in range(3))
        self.activation = nn.PReLU()
        self.head = nn.Linear(8, 3)


class Conv1D(nn.Module):
    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(nn.Embedding(8, 24).weight.detach())


def tied():
    model = Model()
    model.head.weight = model.embed.weight
    return model


def broken():
    sizes = {}
    return nn.Linear(sizes["width"], 2)


def wants(width):
    return Model(width)


def number():
    return 3


finished = Model()
digits = 10
"""


@pytest.fixture
def explain(tmp_path, monkeypatch):
    """The arguments of the command, called in a folder with `MODELS` as models.py, not imported yet."""
    (tmp_path / "models.py").write_text(MODELS)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)  # puts sys.path back, which the command extends
    monkeypatch.delitem(sys.modules, "models", raising=False)

    def arguments(target, *options):
        monkeypatch.setattr("sys.argv", ["scionlab", "explain", target, *options])
        return ["explain", target, *options]

    yield arguments
    sys.modules.pop("models", None)


@pytest.fixture
def rows(explain):
    """The parameters by name, as JSON has them."""

    def run(target, *options):
        done = CliRunner().invoke(app, explain(target, "--json", *options), catch_exceptions=False)
        assert done.exit_code == 0
        answer = json.loads(done.stdout)
        return {row["names"][0]: row for row in answer["parameters"]}, answer

    return run


def mistake(explain, capsys, target, *options):
    """Exit status 2; the last line and everything before it."""
    explain(target, *options)
    with pytest.raises(SystemExit) as stopped:
        main()
    assert stopped.value.code == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    *before, last = printed.err.splitlines()
    return last, "\n".join(before)


def test_the_table_has_every_parameter_with_its_ball(explain):
    done = CliRunner().invoke(app, explain("models:Model"), catch_exceptions=False)
    assert done.exit_code == 0
    cells = [line.split() for line in done.stdout.splitlines()]
    assert ["embed.weight", "11", "×", "8", "input", "column", "1", "in_out"] in [row[:8] for row in cells]
    fused = "encoder.layers.0.self_attn.in_proj_weight 24 × 8 hidden spectral 3 out_in × 3 semi-orthogonal"
    assert f"{fused} nn.MultiheadAttention".split() in cells
    head = "head.weight 11 × 8 output sign 64 out_in random signs nn.Linear called head"
    gain = "encoder.layers.0.norm1.weight 8 gain bias-max 1 – as it is nn.LayerNorm"
    assert head.split() in cells
    assert gain.split() in cells
    assert "14 parameters" in done.stdout
    assert "Frozen, so without a role: head.bias" in done.stdout
    assert "Radii of preset text: " in done.stdout
    assert "tuned here on byte-level GPTs of width 32 to 128" in done.stdout


@pytest.mark.parametrize("target", ["models:Model", "models:finished"])
def test_json_has_the_same(rows, target):
    found, answer = rows(target, "--roles", "text-tied")
    assert len(found) == 14
    assert found["head.weight"] == {
        "names": ["head.weight"], "shape": [11, 8], "role": "output", "norm": "sign", "radius": 3000.0,
        "layout": "out_in", "blocks": 1, "batch": 0, "initialization": "random signs",
        "decided_by": "nn.Linear called head", "shared": False, "padding": None,
    }  # fmt: skip
    assert (answer["preset"], answer["frozen"]) == ("text-tied", ["head.bias"])
    assert "NanoGPT of 124M to 3B parameters" in answer["radii_from"]


def test_roles_were_called_preset_and_still_may_be(rows, explain):
    for options in (["--preset", "image"], ["--roles", "image", "--preset", "image"]):
        assert rows("models:Model", *options) == rows("models:Model", "--roles", "image")
    assert rows("models:Model")[1]["preset"] == "text"
    help_text = CliRunner().invoke(app, ["explain", "--help"]).stdout
    assert "--roles" in help_text
    assert "--preset" not in help_text


def test_shared_weights_show_both_names(rows, explain):
    found, _ = rows("models:tied")
    assert found["embed.weight"]["names"] == ["embed.weight", "head.weight"]
    assert found["embed.weight"]["role"] == "output"
    table = CliRunner().invoke(app, explain("models:tied")).stdout
    assert "= head.weight" in table


def test_rules_decide_before_everything_else(rows):
    found, _ = rows(
        "models:Model", "--rule", r"head\.weight=hidden,norm=row,radius=0.5", "--rule", r".*linear\d\.weight=other"
    )
    head = found["head.weight"]
    assert (head["role"], head["norm"], head["radius"]) == ("hidden", "row", 0.5)
    assert head["decided_by"] == r"rule 'head\.weight'"
    left = found["encoder.layers.0.linear2.weight"]
    assert (left["role"], left["norm"], left["radius"]) == ("other", None, None)


def test_parameters_that_need_a_rule_are_listed_with_rules_that_work(explain, rows, capsys):
    last, listed = mistake(explain, capsys, "models:Fused")
    assert last.startswith("error: 4 parameters of")
    for name in ("'layers.0.weight' of shape (8, 24) in Conv1D", "'layers.2.weight'", "'activation.weight'"):
        assert name in listed
    rules = [line.strip().removeprefix("--rule ").strip("'") for line in listed.splitlines() if "--rule" in line]
    assert rules == [r"layers\.\d+\.weight=hidden,layout=in_out", r"activation\.weight=other"]
    found, _ = rows("models:Fused", "--rule", rules[0] + ",blocks=3", "--rule", rules[1])
    assert [found[f"layers.{i}.weight"]["blocks"] for i in range(3)] == [3, 3, 3]


@pytest.mark.filterwarnings("ignore:enable_nested_tensor")  # torch's advice on the order of axes
def test_a_model_of_an_installed_package_needs_no_file(rows):
    found, _ = rows("torch.nn:Transformer", "--rule", r".*linear\d\.weight=hidden")
    assert found["decoder.layers.5.multihead_attn.in_proj_weight"]["blocks"] == 3
    assert {row["role"] for row in found.values()} == {"hidden", "gain", "bias"}


@pytest.mark.parametrize(
    ("target", "message"),
    [
        ("models", "it must read MODULE:FACTORY"),
        ("models:", "it must read MODULE:FACTORY"),
        ("no_such_models:build", "there is no module 'no_such_models'; it must be a name as in `import`"),
        ("no_such.models:build", "there is no module 'no_such.models'"),
        ("models:Modle", "'Modle' is not known (did you mean 'Model'?); choose one of Conv1D, Fused, Model, broken"),
        ("models:broken", "raised KeyError: 'width' ("),
        ("models:wants", "missing 1 required positional argument: 'width'"),
        ("models:number", "makes an object of type int; it must make a torch.nn.Module"),
        ("models:digits", "is of type int; it must be a function that makes a model"),
    ],
)
def test_mistakes_are_one_sentence(explain, capsys, target, message):
    last, before = mistake(explain, capsys, target)
    assert message in last
    assert before == ""


def test_an_exception_of_the_factory_shows_its_line(explain, capsys):
    line = MODELS.splitlines().index('    return nn.Linear(sizes["width"], 2)') + 1
    last, _ = mistake(explain, capsys, "models:broken")
    assert last.endswith(f".py, line {line})")


@pytest.mark.parametrize(
    ("code", "message"),
    [
        ("import torch\nimport no_such_thing\n", "ModuleNotFoundError: No module named 'no_such_thing' (BAD, line 2)"),
        ("x = 1\nx.y\n", "AttributeError: 'int' object has no attribute 'y' (BAD, line 2)"),
        ("x = (\n", "SyntaxError: '(' was never closed (BAD, line 1)"),
        ('raise ValueError("one\\n  two")\n', "ValueError: one two (BAD, line 1)"),
    ],
    ids=["import", "attribute", "syntax", "lines"],
)
def test_a_module_that_cannot_be_imported_shows_its_line(explain, capsys, tmp_path, code, message, request):
    name = f"bad_{request.node.callspec.id}"
    (tmp_path / f"{name}.py").write_text(code)
    last, before = mistake(explain, capsys, f"{name}:build")
    assert message.replace("BAD", f"{name}.py") in last
    assert before == ""


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--roles", "txt"], "roles: 'txt' is not known (did you mean 'text'?)"),
        (["--preset", "txt"], "roles: 'txt' is not known (did you mean 'text'?)"),
        (["--roles", "text", "--preset", "image"], "roles: 'text' and --preset 'image' are two; name one"),
        (["--rule", "head"], "rule: 'head' is not allowed: it must read REGEX=ROLE"),
        (["--rule", "haed.*=output"], "rule 'haed.*' for role 'output' matches no parameter"),
        (["--rule", "head.weight=output,norm=sgin"], "norm: 'sgin' is not known (did you mean 'sign'?)"),
        (["--rule", "head.weight=output,radius=-1"], "radius: -1.0 is not allowed"),
        (["--rule", "head.weight=output,blocks=3"], "blocks: 3 is not allowed: it does not divide"),
    ],
)
def test_mistakes_in_options_are_one_sentence(explain, capsys, options, message):
    last, before = mistake(explain, capsys, "models:Model", *options)
    assert message in last
    assert before == ""


def test_help_needs_no_torch(clean_environment):
    code = "import sys, scionlab.cli; print([m for m in ('torch', 'ray') if m in sys.modules])"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, env=clean_environment
    )
    assert done.stdout.strip() == "[]"
