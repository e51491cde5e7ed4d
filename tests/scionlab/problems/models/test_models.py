"""MLP and CNN: their counts against the real modules, and the properties that their design rests on."""

import itertools
import math

import pytest
import torch
import torch.nn.functional as F
from torch.utils.flop_counter import FlopCounterMode

from scionlab.errors import UserError
from scionlab.problems.data import DataShape, load
from scionlab.problems.models import MODELS, Architecture, cnn
from scionlab.problems.models.cnn import CNN, CNNConfig
from scionlab.spec import Trial

SHAPES = {
    "text": DataShape("text", 256),
    "8x8": DataShape("image", 10, (1, 8, 8)),
    "28x28": DataShape("image", 10, (1, 28, 28)),
    "32x32": DataShape("image", 10, (3, 32, 32)),
    "noise": DataShape("noise"),
}
SIZES = list(itertools.product(("8x8", "28x28", "32x32"), (16, 32), (1, 3)))
for_every_size = pytest.mark.parametrize(("shape", "width", "depth"), SIZES)
for_image_models = pytest.mark.parametrize("model", ["mlp", "cnn"])


def architecture(model: str, shape: str, output_scale: float = 1.0, **fields) -> Architecture:
    trial = Trial(optimizer="scion", lr=0.1, model=model, data=shape, **{"width": 32, "seq_len": 1} | fields)
    return MODELS[model](trial, SHAPES[shape], output_scale)


def built(model: str, shape: str, seed: int = 0, **fields) -> torch.nn.Module:
    """The model with Gaussian weights of variance 1/d_in and biases of 0."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        module = architecture(model, shape, **fields).build()
        for parameter in module.parameters():
            if parameter.ndim == 1:
                torch.nn.init.zeros_(parameter)
            else:
                torch.nn.init.normal_(parameter, std=1 / math.sqrt(parameter[0].numel()))
    return module


def noise(shape: str, batch: int, seed: int = 1) -> torch.Tensor:
    return torch.randn(batch, *SHAPES[shape].input_shape, generator=torch.Generator().manual_seed(seed))


def mean_square(x: torch.Tensor) -> float:
    return float(x.detach().square().mean())


@for_image_models
@for_every_size
def test_parameter_counts_are_those_of_the_module(model, shape, width, depth):
    counts = architecture(model, shape, width=width, depth=depth)
    module = counts.build()
    first = module.input if model == "mlp" else module.stem
    outer = sum(p.numel() for layer in (first, module.head) for p in layer.parameters())
    assert counts.n_params == sum(p.numel() for p in module.parameters())
    assert counts.n_params_hidden == counts.n_params - outer


@for_image_models
@for_every_size
def test_training_flops_are_three_times_the_forward_pass_that_pytorch_counts(model, shape, width, depth):
    counts = architecture(model, shape, width=width, depth=depth)
    counter = FlopCounterMode(display=False)
    with counter:
        counts.build()(noise(shape, 2))
    assert counts.train_flops_per_token * 2 == 3 * counter.get_total_flops()


@for_image_models
@pytest.mark.parametrize("shape", ["8x8", "28x28", "32x32"])
def test_logits_have_one_row_an_image_which_does_not_see_its_neighbours(model, shape):
    module, images = built(model, shape), noise(shape, 5)
    with torch.no_grad():
        together, alone = module(images), module(images[2:3])
    assert together.shape == (5, 10)
    assert torch.allclose(together[2:3], alone, rtol=0, atol=1e-5)  # float32 sums grouped by batch size


@for_image_models
def test_output_scale_multiplies_the_logits(model):
    images = noise("8x8", 4)
    scaled = built(model, "8x8", output_scale=0.25)
    with torch.no_grad():
        assert torch.equal(scaled(images), 0.25 * built(model, "8x8")(images))  # a power of two: exact


@pytest.mark.parametrize("depth", [1, 4, 8])
def test_an_mlp_keeps_the_mean_square_at_initialization(depth):
    module, images, seen = built("mlp", "8x8", width=512, depth=depth), noise("8x8", 200), []
    for layer in (module.input, *module.hidden, module.head):
        layer.register_forward_hook(lambda _module, _inputs, output: seen.append(mean_square(output)))
    module(images)
    assert len(seen) == depth + 2
    # each layer multiplies by a factor whose standard deviation is below √(5/512) = 0.1; the head has ten rows only
    assert all(abs(math.log(value)) < 5 * 0.1 * math.sqrt(layer + 1) for layer, value in enumerate(seen[:-1]))
    assert 0.2 < seen[-1] / seen[-2] < 4


def test_an_mlp_is_its_matrices_around_scaled_relu():
    module, images = built("mlp", "8x8", depth=2), noise("8x8", 3)
    for bias in (module.input.bias, *(layer.bias for layer in module.hidden)):
        torch.nn.init.normal_(bias, generator=torch.Generator().manual_seed(2))
    x = images.flatten(1) @ module.input.weight.T + module.input.bias
    for layer in module.hidden:
        x = math.sqrt(2) * x.clamp(min=0) @ layer.weight.T + layer.bias
    expected = math.sqrt(2) * x.clamp(min=0) @ module.head.weight.T
    assert torch.allclose(module(images), expected, rtol=1e-4, atol=1e-4)  # float32 sums in another order
    assert module.head.bias is None


@pytest.mark.parametrize(
    ("shape", "depth", "sizes"),
    [
        ("8x8", 2, [8, 8, 8]),
        ("28x28", 1, [28, 14]),
        ("28x28", 3, [28, 14, 7, 7]),
        ("32x32", 3, [32, 16, 8, 8]),
    ],
)
def test_a_cnn_halves_images_larger_than_eight(shape, depth, sizes):
    module, seen = built("cnn", shape, depth=depth), []
    for layer in (module.stem, *module.blocks):
        layer.register_forward_hook(lambda _module, _inputs, output: seen.append(output.shape[-1]))
    module(noise(shape, 1))
    assert seen == sizes


@pytest.mark.parametrize(("residual", "scale"), [("1", 1.0), ("1/sqrt(2L)", 1 / math.sqrt(6)), ("1/L", 1 / 3)])
def test_residual_branches_of_a_cnn_are_scaled(residual, scale):
    block = built("cnn", "8x8", depth=3, residual=residual).blocks[1]
    x = 5 * torch.randn(2, 32, 8, 8, generator=torch.Generator().manual_seed(4))
    root = x.square().mean(dim=(1, 2, 3), keepdim=True).sqrt()
    with torch.no_grad():
        branch = block.second(math.sqrt(2) * F.relu(block.first(x / root)))
        assert torch.allclose(block(x), x + scale * branch, rtol=0, atol=1e-5)  # the same float32 operations


def test_a_cnn_keeps_the_mean_square_up_to_its_zero_padding():
    block = built("cnn", "8x8", width=128, depth=1, residual="1").blocks[0]
    x = torch.randn(8, 128, 8, 8, generator=torch.Generator().manual_seed(5))
    with torch.no_grad():
        middle = block.first(x)
        after = block.second(math.sqrt(2) * middle.relu())
    # a 3 × 3 kernel on 8 × 8 pixels meets zeros for 1 − (22/24)² = 16 % of its taps; the rest is sampling
    assert 0.75 < mean_square(middle) < 0.95
    assert 0.6 < mean_square(after) < 0.95


def test_a_cnn_reads_its_features_at_unit_root_mean_square():
    module, seen = built("cnn", "8x8"), []
    module.head.register_forward_pre_hook(lambda _module, inputs: seen.append(inputs[0]))
    module(100 * noise("8x8", 6))
    assert (seen[0] >= 0).all()  # means of what passed the nonlinearity
    assert torch.allclose(seen[0].square().mean(-1), torch.ones(6), atol=1e-4)  # RMS norm's epsilon under the root


def test_a_cnn_of_images_wider_than_high_keeps_their_ratio():
    config = CNNConfig(width=4, depth=2, input_shape=(1, 16, 32), n_outputs=10)
    assert config.sizes == [(16, 32), (8, 16), (8, 16)]
    counter = FlopCounterMode(display=False)
    with counter:
        assert CNN(config)(torch.zeros(1, 1, 16, 32)).shape == (1, 10)
    assert cnn.train_flops_per_example(config) == 3 * counter.get_total_flops()


@for_image_models
def test_a_few_steps_on_digits_reduce_the_loss(model):
    data, module = load("digits"), built(model, "8x8", width=16, depth=1)
    batches = data.training(128, 1, seed=0)
    optimizer = torch.optim.Adam(module.parameters(), lr=0.01)

    def validate() -> tuple[float, float]:
        with torch.no_grad():
            inputs, targets = data.unpack(data.held_out(256, 1))
            outputs = module(inputs)
            return float(data.loss(outputs, targets)), int(data.correct(outputs, targets)) / 256

    before, _ = validate()
    for _ in range(60):
        inputs, targets = data.unpack(batches.next_batch())
        optimizer.zero_grad()
        data.loss(module(inputs), targets).backward()
        optimizer.step()
    after, accuracy = validate()
    assert after < before / 2
    assert accuracy > 0.7  # guessing gives 0.1


@pytest.mark.parametrize(
    ("model", "shape", "message"),
    [
        ("gpt", "8x8", "model: 'gpt' reads text, but data '8x8' is images; use mlp or cnn"),
        ("gpt", "noise", "model: 'gpt' reads text, but data 'noise' is noise; use quadratic"),
        ("mlp", "text", "model: 'mlp' reads images, but data 'text' is text; use gpt"),
        ("cnn", "noise", "model: 'cnn' reads images, but data 'noise' is noise; use quadratic"),
        ("quadratic", "text", "model: 'quadratic' reads noise, but data 'text' is text; use gpt"),
    ],
)
def test_a_model_that_does_not_fit_the_data_is_refused(model, shape, message):
    with pytest.raises(UserError, match=message):
        architecture(model, shape)


@pytest.mark.parametrize(("model", "shape"), [("mlp", "8x8"), ("cnn", "8x8"), ("quadratic", "noise")])
def test_only_texts_have_an_embedding_to_tie(model, shape):
    with pytest.raises(UserError, match=f"tied: True is not allowed: model '{model}'"):
        architecture(model, shape, tied=True)


def test_the_gpt_takes_its_vocabulary_from_the_data():
    trial = Trial(optimizer="scion", lr=0.1, width=32)
    assert MODELS["gpt"](trial, DataShape("text", 64), 1.0).build().head.weight.shape == (64, 32)
