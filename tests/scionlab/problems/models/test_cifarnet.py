"""CifarNet against the published network written down again, its counts, its start, and how it is trained."""

import pytest
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from scionlab import training
from scionlab.errors import UserError
from scionlab.problems.data import DataShape, load
from scionlab.problems.data.augment import patch_moments
from scionlab.problems.models import MODELS, cifarnet
from scionlab.spec import Trial
from scionlab.training.prepare import build, data_of, resolve
from scionlab.training.stack import stack_key

IMAGES = torch.randn(6, 3, 32, 32, generator=torch.Generator().manual_seed(0))
SHAPE = DataShape("image", 10, (3, 32, 32), patches=lambda kernel, count: patch_moments(IMAGES[:count], kernel))


class Published(nn.Module):
    """The network of airbench94_muon.py, by its layers: 24 whitening filters, groups of 64, 256 and 256 channels."""

    def __init__(self, widths=(64, 256, 256)):
        super().__init__()
        self.whiten = nn.Conv2d(3, 24, 2, padding=0, bias=True)
        layers, channels = [nn.GELU()], 24
        for width in widths:
            layers += [nn.Conv2d(channels, width, 3, padding="same", bias=False), nn.MaxPool2d(2), self.norm(width)]
            layers += [nn.GELU(), nn.Conv2d(width, width, 3, padding="same", bias=False), self.norm(width), nn.GELU()]
            channels = width
        self.layers = nn.Sequential(*layers, nn.MaxPool2d(3))
        self.head = nn.Linear(channels, 10, bias=False)

    @staticmethod
    def norm(width):
        return nn.BatchNorm2d(width, eps=1e-12, momentum=1 - 0.6)

    def forward(self, x):
        x = self.layers(self.whiten(x)).flatten(1)
        return self.head(x) / x.size(-1)


def trial(**fields) -> Trial:
    given = {"optimizer": "scion", "lr": 0.05, "model": "cifarnet", "width": 16, "data": "digits,enlarge=4"}
    sizes = {"seq_len": 1, "val_seq_len": 1, "val_tokens": 64, "batch_size": 32, "tokens": 32 * 6, "device": "cpu"}
    return resolve(Trial(**given | sizes | {"initialization": "model"} | fields))


def built(width: int = 256, scale: float = 1.0) -> cifarnet.CifarNet:
    torch.manual_seed(1)
    return MODELS["cifarnet"](Trial(optimizer="scion", lr=0.1, model="cifarnet", width=width), SHAPE, scale).build()


def test_it_is_the_published_network():
    ours, theirs = built(), Published()
    convolutions = [module for module in theirs.layers if isinstance(module, nn.Conv2d)]
    norms = [module for module in theirs.layers if isinstance(module, nn.BatchNorm2d)]
    own = [(group.conv1, group.norm1, group.conv2, group.norm2) for group in ours.groups]
    with torch.no_grad():
        theirs.whiten.weight.copy_(ours.whiten)
        theirs.whiten.bias.copy_(ours.whiten_bias)
        theirs.head.weight.copy_(ours.head.weight)
        for module, convolution in zip([m for row in own for m in row[::2]], convolutions, strict=True):
            convolution.weight.copy_(module.weight)
        for module, norm in zip([m for row in own for m in row[1::2]], norms, strict=True):
            module.bias.uniform_(-1, 1)
            norm.bias.copy_(module.bias)
    for mode in (True, False):  # the second reads the statistics that the first has gathered
        for module in (ours, theirs):
            module.train(mode)
        found, expected = ours(IMAGES), theirs(IMAGES)
        assert torch.allclose(found, expected, rtol=1e-5, atol=1e-6)
        assert float(expected.detach().std()) > 1e-3


def test_it_starts_where_the_authors_start():
    model = built()
    assert float(model.head.weight.detach().std()) == pytest.approx(1, abs=1e-5)
    for group, channels in zip(model.groups, (24, 64, 256), strict=True):
        for convolution in (group.conv1, group.conv2):
            weight = convolution.weight
            passed = min(weight.shape[:2])
            x = torch.randn(2, weight.shape[1], 5, 5, generator=torch.Generator().manual_seed(0))
            assert torch.equal(convolution(x)[:, :passed], x[:, :passed])  # the identity
        rest = group.conv1.weight[channels:]
        assert not len(rest) or float(rest.detach().abs().max()) == pytest.approx((9 * channels) ** -0.5, rel=0.02)
        assert not group.norm1.bias.any()
    assert float(model.whiten_bias.abs().max()) <= 12**-0.5


def test_the_first_filters_whiten_patches_of_the_training_images():
    model = built()
    moments = patch_moments(IMAGES, 2)
    filters = model.whiten.flatten(1).double()
    assert torch.equal(filters[:12], -filters[12:])
    values = torch.linalg.eigvalsh(moments)
    expected = torch.diag(values / (values + 5e-4))
    assert torch.allclose(filters[:12] @ moments @ filters[:12].T, expected, atol=1e-5)  # filters are float32


def test_counts_are_those_of_the_module_and_of_pytorch():
    counts = MODELS["cifarnet"](trial(width=256), SHAPE, 1.0)
    model = built()
    trained = [p for name, p in Published().named_parameters() if "whiten" not in name]
    gains = [module.weight for module in Published().layers if isinstance(module, nn.BatchNorm2d)]
    assert counts.n_params == sum(p.numel() for p in model.parameters())
    assert counts.n_params == sum(p.numel() for p in trained) - sum(p.numel() for p in gains)
    outer = model.groups[0].conv1.weight.numel() + model.head.weight.numel()
    assert counts.n_params_hidden == counts.n_params - outer
    with FlopCounterMode(display=False) as counter:
        model(IMAGES)
    whitened = 2 * 31 * 31 * 24 * 12
    assert counts.train_flops_per_token == 3 * (counter.get_total_flops() // 6 - whitened) + whitened


def test_output_scale_multiplies_the_logits():
    plain, scaled = built().eval(), built(scale=0.25).eval()
    with torch.no_grad():
        assert torch.equal(scaled(IMAGES), 0.25 * plain(IMAGES))


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"width": 18}, "width: 18 is not allowed: model 'cifarnet' has a quarter of it in its first group"),
        ({"data": "digits"}, "model: 'cifarnet' reads images of 25 to 48 pixels a side, but those .* have 8 × 8; .*"),
        ({"data": "digits,enlarge=8"}, "model: 'cifarnet' reads images of 25 to 48 pixels a side, .* 64 × 64"),
    ],
)
def test_sizes_that_do_not_fit_are_refused(fields, message):
    wrong = trial(**fields)
    with pytest.raises(UserError, match=message):
        build(wrong, data_of(wrong).shape)


def test_data_without_patches_are_refused():
    with pytest.raises(UserError, match="model: 'cifarnet' starts from patches of images, which data 'mine'"):
        MODELS["cifarnet"](trial(data="mine"), DataShape("image", 10, (3, 32, 32)), 1.0).build()


def test_only_images_that_are_trained_on_are_whitened_by():
    limited, whole = trial(train_limit=64), trial()
    first, second = (build(one, data_of(one).shape)[0].whiten for one in (limited, whole))
    assert not torch.equal(first, second)
    data = load("digits,enlarge=4")
    inputs = data.unpack(data.rows(data.train.pixels[:64], data.train.labels[:64]))[0]
    assert torch.equal(first.flatten(1), cifarnet.whitening(patch_moments(inputs, 2)).float())


def test_whitening_and_its_bias_are_not_trained_and_all_else_is():
    run = training.Run(trial(), load("digits,enlarge=4"))
    state = {name: value.clone() for name, value in run.model.state_dict().items()}
    run.run_steps(1)
    moved = {name for name, value in run.model.state_dict().items() if not torch.equal(value, state[name])}
    assert moved == set(state) - {"whiten", "whiten_bias"}


def test_a_run_goes_on_after_a_break_bit_for_bit():
    changed = trial(data="digits,enlarge=4,flip=alternating,translate=2,smoothing=0.2,views=6", tokens=32 * 52)
    data = data_of(changed)
    whole, first, later = (training.Run(changed, data) for _ in range(3))
    first.run_steps(47)  # in the second epoch
    later.load_state_dict(first.state_dict())
    for run in (whole, later):
        run.run_steps(52)
    states = [run.model.state_dict() for run in (whole, later)]
    assert all(torch.equal(value, states[1][name]) for name, value in states[0].items())
    found, expected = later.outcome().summary, whole.outcome().summary
    assert all(found[name] == expected[name] for name in ("val_loss", "val_accuracy"))


def test_batches_stay_whole_and_trials_alone_as_it_normalizes_over_them():
    one = trial()
    whole, parts = (training.train(one, data_of(one), micro_batch=size).summary for size in (0, 8))
    assert parts["micro_batch_note"] == "batches stay whole: the model normalizes over them"
    assert parts["train_loss"] == whole["train_loss"]
    assert stack_key(one) is None


@pytest.mark.parametrize("side", [cifarnet.SIDES[0], cifarnet.SIDES[-1]])
def test_features_are_read_at_one_place(side):
    config = cifarnet.CifarNetConfig(16, (1, side, side), 10)
    model = cifarnet.CifarNet(config, lambda kernel, count: torch.eye(kernel**2), 1)
    assert model(torch.zeros(2, 1, side, side)).shape == (2, 10)
