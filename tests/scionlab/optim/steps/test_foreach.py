"""The fast path of Scion's step: the plain path's numbers, in a number of calls that does not grow with the model."""

import copy
import pickle
from collections import Counter

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

from scionlab import Scion, ScionLight
from scionlab.errors import UserError
from scionlab.geometry import Layer, norm_named
from scionlab.optim import recipe
from scionlab.optim.steps import foreach
from scionlab.optim.steps.scion import DEFAULTS
from scionlab.problems.models.gpt import GPT, GPTConfig
from scionlab.roles.roles import assign_roles
from scionlab.spec import Trial

STEPS = 5
# A batched product may add in another order than a single one. Newton-Schulz amplifies rounding at most 500 times, and
# the average of later steps does not see it.
AMPLIFIED = 500

METHODS = {
    "Scion": {},
    "from the first gradient": {"first_average": "gradient"},
    "Nesterov's": {"average": "nesterov"},
    "Lion's": {"average": "lion"},
    "Lion's from the first gradient": {"average": "lion", "first_average": "gradient", "optimism": 0.5},
    "no average": {"average": "none"},
    "unconstrained": {"constrained": False},
    "ALMOND": {"constrained": False, "average": "lmo"},
    "ALMOND from the first LMO": {"constrained": False, "average": "lmo", "first_average": "gradient"},
    "decoupled decay": {"constrained": False, "weight_decay": 0.5},
    "coupled decay": {"constrained": False, "weight_decay": 0.5, "coupled": True},
}
for_every_method = pytest.mark.parametrize("options", METHODS.values(), ids=METHODS.keys())


def gpt(depth: int = 2, dtype: torch.dtype = torch.float32) -> GPT:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return GPT(GPTConfig(width=16, depth=depth)).to(dtype)


def of_recipe(model: nn.Module, path: bool | None = None, name: str = "scion", **options) -> Scion:
    sizes = {"width": 16, "batch_size": 1, "seq_len": 8, "tokens": 64, "lr": 2**-5}
    trial = Trial(optimizer=name, options=options, **sizes)
    (optimizer,) = recipe(trial).optimizers(assign_roles(model), 2**-5, 0.25, 16)
    return on(optimizer, path)


def on(optimizer: Scion, path: bool | None) -> Scion:
    for group in optimizer.param_groups:
        group["foreach"] = path
    return optimizer


def parameters(optimizer: Scion) -> list[nn.Parameter]:
    return [parameter for group in optimizer.param_groups for parameter in group["params"]]


def set_gradients(optimizer: Scion, seed: int, idle: int | None = None) -> None:
    """Random gradients, whose size falls from step to step; parameter number `idle` has none."""
    generator = torch.Generator().manual_seed(seed)
    for number, parameter in enumerate(parameters(optimizer)):
        drawn = torch.randn(parameter.shape, generator=generator, dtype=torch.float64) * 3.0**-seed
        parameter.grad = None if number == idle else drawn.to(parameter.dtype)


def train(optimizer: Scion, steps: range = range(STEPS)) -> None:
    """Steps at a rate and a momentum that change, one of them without the gradient of one parameter."""
    for k in steps:
        set_gradients(optimizer, k, idle=k if k in (1, 3) else None)
        for group in optimizer.param_groups:
            group["lr"], group["momentum"] = 2**-4 / (k + 1), 1 / (k + 2)
        optimizer.step()


def assert_same(fast: Scion, plain: Scion, units: float = STEPS * AMPLIFIED) -> None:
    """Weights and averages agree, to `units` in the last place of a tensor's largest entry."""
    for mine, other in zip(parameters(fast), parameters(plain), strict=True):
        pairs = [(mine.detach(), other.detach())]
        pairs += [(fast.state[mine][name], value) for name, value in plain.state.get(other, {}).items()]
        for found, expected in pairs:
            close = units * torch.finfo(expected.dtype).eps * float(expected.abs().amax())
            assert float((found - expected).abs().amax()) <= close
    assert len(fast.state) == len(plain.state)


# --- the same numbers ---


@for_every_method
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_gpt_takes_the_plain_paths_steps(options, dtype):
    fast, plain = (of_recipe(gpt(dtype=dtype), path, **options) for path in (None, False))
    for optimizer in (fast, plain):
        train(optimizer)
    assert_same(fast, plain)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_matrices_moved_by_parts_take_the_plain_paths_steps(dtype):
    fast, plain = (of_recipe(gpt(dtype=dtype), path, period=3, period_blocks=2) for path in (None, False))
    for optimizer in (fast, plain):
        train(optimizer)
    assert_same(fast, plain)


@pytest.mark.parametrize("name", ["scion", "scion-light"])
def test_scion_light_takes_them_too(name):
    fast, plain = (of_recipe(gpt(dtype=torch.float64), path, name) for path in (None, False))
    for k in range(STEPS):
        for optimizer in (fast, plain):
            before = [p.grad.clone() if k and name == "scion-light" else 0 for p in parameters(optimizer)]
            set_gradients(optimizer, k)
            for parameter, kept in zip(parameters(optimizer), before, strict=True):
                parameter.grad += kept
            optimizer.step()
    assert_same(fast, plain)
    for mine, other in zip(parameters(fast), parameters(plain), strict=True):
        assert torch.equal(mine.grad, other.grad)  # entry by entry


def mixed_groups() -> list[dict]:
    """Norms, layouts, blocks, radii, rules and precisions side by side, most of them twice, in one group or in two."""

    def some(*shape: int, count: int = 2, dtype: torch.dtype = torch.float64) -> list[nn.Parameter]:
        generator = torch.Generator().manual_seed(sum(shape))
        return [nn.Parameter(torch.randn(shape, generator=generator).to(dtype)) for _ in range(count)]

    return [
        {"params": some(6, 4)},
        {"params": some(6, 4, count=1) + some(4, 6)},
        {"params": some(6, 4, dtype=torch.float32)},
        {"params": some(6, 4), "norm_options": {"steps": 7, "coefficients": "polar-express"}},
        {"params": some(6, 4), "blocks": 3, "radius": 2.0},
        {"params": some(6, 4), "layout": "in_out", "norm": "column"},
        {"params": some(6, 4), "norm": "schatten-4", "average": "nesterov"},
        {"params": some(6, 4, 3, 3), "norm": "conv"},
        {"params": some(6, 4, 3, 3), "norm": "flat:row", "blocks": 2},
        {"params": some(6), "norm": "bias"},
        {"params": some(6, count=3), "norm": "bias-max", "constrained": False, "weight_decay": 0.5},
        {"params": some(6, 4), "constrained": False, "average": "lmo"},
        {"params": some(6, 4), "norm": "euclidean", "step_rule": "clipped", "smoothness": 3.0},
        {"params": some(6, 4), "norm": "euclidean", "step_rule": "clipped", "smoothness": 3.0},
    ]


def test_groups_of_all_kinds_take_the_plain_paths_steps():
    fast, plain = (on(Scion(mixed_groups()), path) for path in (None, False))
    for optimizer in (fast, plain):
        train(optimizer)
    assert_same(fast, plain)


def test_groups_on_the_plain_path_and_on_the_fast_one_go_together():
    together, plain = Scion(mixed_groups()), on(Scion(mixed_groups()), False)
    for group in together.param_groups[::2]:
        group["foreach"] = False
    for optimizer in (together, plain):
        train(optimizer)
    assert_same(together, plain)


@for_every_method
def test_what_is_alone_in_its_stack_has_the_same_bits(options):
    shapes = [(6, 4), (4, 6), (5, 5), (7, 3)]
    optimizers = []
    for path in (None, False):
        groups = [{"params": [nn.Parameter(torch.ones(shape))]} for shape in shapes]
        optimizers.append(on(Scion(groups, **options), path))
        train(optimizers[-1])
    assert_same(*optimizers, units=0)


@pytest.mark.parametrize(("norm", "shape"), [("sign", (6, 4)), ("sign-onehot", (6, 4)), ("bias-max", (6,))])
def test_a_norm_of_single_entries_has_the_same_bits(norm, shape):
    optimizers = []
    for path in (None, False):
        weights = [nn.Parameter(torch.full(shape, float(i))) for i in range(5)]
        optimizers.append(on(Scion([{"params": [weight]} for weight in weights], norm=norm), path))
        train(optimizers[-1])
    assert_same(*optimizers, units=0)


members = st.tuples(
    st.sampled_from([(3, 3), (4, 2), (2, 4)]),
    st.sampled_from(["spectral", "column", "sign", "euclidean"]),
    st.sampled_from([0.5, 2.0]),
    st.sampled_from(list(METHODS)),
    st.sampled_from([torch.float64, torch.float32]),
)


@settings(deadline=None, max_examples=40)
@given(drawn=st.lists(members, min_size=1, max_size=8), idle=st.sets(st.integers(0, 7)), room=st.sampled_from([1, 20]))
def test_any_groups_take_the_plain_paths_steps(drawn, idle, room):
    fast, plain = (Scion([nn.Parameter(torch.ones(1, 1))], foreach=path) for path in (None, False))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(foreach, "CPU_ROOM", room)
        for optimizer in (fast, plain):
            for number, (shape, norm, radius, method, dtype) in enumerate(drawn):
                weight = nn.Parameter(torch.full(shape, float(number), dtype=dtype))
                optimizer.add_param_group({"params": [weight], "norm": norm, "radius": radius, **METHODS[method]})
            for k in range(2):
                set_gradients(optimizer, k)
                for number in idle & set(range(len(drawn))):
                    parameters(optimizer)[number].grad = None
                optimizer.step()
    assert_same(fast, plain)


@pytest.mark.parametrize("norm", ["spectral", "spectral-exact", "column", "euclidean"])
@pytest.mark.parametrize("value", [torch.nan, torch.inf])
def test_a_gradient_that_is_not_finite_stays_with_its_own_matrix(norm, value):
    weights = [nn.Parameter(torch.eye(3)) for _ in range(3)]
    optimizer = Scion([{"params": [weight]} for weight in weights], norm=norm)
    set_gradients(optimizer, 0)
    weights[1].grad[0, 0] = value
    optimizer.step()
    assert [bool(weight.isnan().any()) for weight in weights] == [False, True, False]


# --- what stays of a step ---


@pytest.mark.parametrize(("first", "second"), [(None, False), (False, None)], ids=["fast first", "plain first"])
def test_a_checkpoint_goes_on_on_the_other_path(first, second):
    straight, saved = of_recipe(gpt(dtype=torch.float64), False), of_recipe(gpt(dtype=torch.float64), first)
    train(straight)
    train(saved, range(3))
    model = gpt(dtype=torch.float64)
    resumed = of_recipe(model)
    with torch.no_grad():
        for mine, other in zip(model.parameters(), parameters(saved), strict=True):
            mine.copy_(other)
    resumed.load_state_dict(saved.state_dict())
    assert all(group["foreach"] is first for group in resumed.param_groups)
    train(on(resumed, second), range(3, STEPS))
    assert_same(resumed, straight)


def test_a_checkpoint_older_than_the_fast_path_takes_it():
    optimizer, other = of_recipe(gpt()), of_recipe(gpt(), False)
    state = optimizer.state_dict()
    for group in state["param_groups"]:
        del group["foreach"]
    other.load_state_dict(state)
    assert all(group["foreach"] is None for group in other.param_groups)


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda x: pickle.loads(pickle.dumps(x))], ids=["copied", "pickled"])
def test_a_copy_goes_on_by_itself(copied):
    optimizer, straight = of_recipe(gpt(dtype=torch.float64)), of_recipe(gpt(dtype=torch.float64))
    train(optimizer, range(3))
    other = copied(optimizer)
    before = [parameter.detach().clone() for parameter in parameters(optimizer)]
    train(other, range(3, STEPS))
    assert all(torch.equal(p, old) for p, old in zip(parameters(optimizer), before, strict=True))
    train(straight)
    assert_same(other, straight, units=0)


def test_options_that_change_between_steps_count_at_once():
    optimizers = [of_recipe(gpt(dtype=torch.float64), path) for path in (None, False)]
    for optimizer in optimizers:
        train(optimizer, range(2))
        hidden = [group for group in optimizer.param_groups if group["norm"] == "spectral"]
        hidden[0]["radius"], hidden[1]["norm"], hidden[2]["norm_options"] = 7.0, "column", {"steps": 3}
        optimizer.add_param_group({"params": [nn.Parameter(torch.eye(16, dtype=torch.float64))], "radius": 3.0})
        train(optimizer, range(2, STEPS))
    assert_same(*optimizers)


# --- what it costs ---


class Counted(TorchDispatchMode):
    """Counts operations, and refuses those that make the host wait for its device."""

    def __init__(self) -> None:
        super().__init__()
        self.calls: Counter[str] = Counter()

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        name = function.name()
        if name == "aten::_local_scalar_dense":
            raise AssertionError("the host waits for a number of the device")
        self.calls[name] += 1
        return function(*args, **(kwargs or {}))


def counted(optimizer: Scion) -> Counter[str]:
    """Operations of a step that is not the first."""
    train(optimizer, range(1))
    set_gradients(optimizer, 1)
    with Counted() as mode:
        optimizer.step()
    return mode.calls


@for_every_method
def test_the_number_of_operations_does_not_grow_with_depth(options):
    shallow, deep = (counted(of_recipe(gpt(depth), **options)) for depth in (2, 5))
    assert shallow == deep
    plain = [counted(of_recipe(gpt(depth), False, **options)).total() for depth in (2, 5)]
    assert plain[1] > 2 * plain[0]  # the measure tells the paths apart


def test_matrices_of_one_shape_share_their_products():
    # width² (attention), 4·width × width and its transpose (MLP), in five iterations of two fused products each
    assert counted(of_recipe(gpt(3)))["aten::baddbmm"] == 3 * 5 * 2


def test_a_stack_on_a_cpu_has_room_for_so_many_entries(monkeypatch):
    monkeypatch.setattr(foreach, "CPU_ROOM", 2 * 16 * 16)
    calls = counted(of_recipe(gpt(3)))
    assert calls["aten::baddbmm"] == 6 * 5 * 2  # twelve attention matrices in pairs
    assert calls["aten::addmm"] == 6 * 5 * 2  # three layers' up and down, each alone
    half = counted(of_recipe(gpt(3), dtype="bfloat16"))
    assert half["aten::baddbmm"] == 3 * 5 * 2  # whose room is another


@pytest.mark.parametrize(
    ("side", "dtype", "height"),
    [(1024, torch.float32, 16), (1024, torch.bfloat16, 32), (8192, torch.float32, 1), (2, torch.float32, 2**15)],
)
def test_a_stack_on_another_device_has_room_for_so_many_bytes(side, dtype, height):
    weights = [torch.empty(side, side, dtype=dtype, device="meta")] * (2**15 + 1 if side == 2 else 33)
    group = {"norm_options": {}, "period": 1}
    layer = Layer(norm_named("spectral"), 1.0, "out_in", 1)
    sizes = [len(stack) for stack, _ in foreach._lmos(layer, weights, group)]
    assert sizes[0] == height
    assert sum(sizes) == len(weights)
    assert max(sizes) * side**2 * weights[0].element_size() <= max(foreach.OTHER_BYTES, side**2 * dtype.itemsize)


@for_every_method
@pytest.mark.parametrize("path", [None, False], ids=["fast", "plain"])
@pytest.mark.parametrize("rate", [2**-5, torch.tensor(2**-5)], ids=["number", "tensor"])
def test_a_step_does_not_wait_for_the_device(options, path, rate):
    optimizer = of_recipe(gpt(1), path, **options)
    for group in optimizer.param_groups:
        group["lr"] = rate
    for k in range(2):
        set_gradients(optimizer, k)
        with Counted():
            optimizer.step()


@pytest.mark.parametrize("wait", [float, bool, torch.Tensor.item])
def test_the_measure_sees_who_waits(wait):
    with Counted(), pytest.raises(AssertionError, match="waits"):
        wait(torch.ones(()))


# --- rates that are tensors, and compilation ---


@for_every_method
@pytest.mark.parametrize("path", [None, False], ids=["fast", "plain"])
def test_a_rate_may_be_a_tensor(options, path):
    of_tensor, of_number = (of_recipe(gpt(dtype=torch.float64), path, **options) for _ in range(2))
    rate = torch.tensor(0.0, dtype=torch.float64)
    for group in of_tensor.param_groups:
        group["lr"] = rate
    for k in range(STEPS):
        rate.fill_(2**-4 / (k + 1))
        for group in of_number.param_groups:
            group["lr"] = 2**-4 / (k + 1)
        for optimizer in (of_tensor, of_number):
            set_gradients(optimizer, k)
            optimizer.step()
    assert_same(of_tensor, of_number, units=2 * STEPS)  # s·(γρ) for s·γ·ρ, and nothing amplifies it


def test_clipped_steps_take_a_tensor_too():
    sized = []
    for rate in (2**-6, torch.tensor(2**-6)):
        x = nn.Parameter(torch.eye(3))
        x.grad = torch.ones(3, 3)
        Scion([x], lr=rate, norm="euclidean", step_rule="clipped", smoothness=0.1).step()
        sized.append(x.detach())
    assert torch.equal(*sized)


@pytest.mark.parametrize("rate", [torch.tensor([0.1]), torch.tensor([0.1, 0.2])])
def test_a_rate_of_one_dimension_is_refused(rate):
    with pytest.raises(UserError, match=r"lr: .* must be a number"):
        Scion([nn.Parameter(torch.eye(3))], lr=rate)


@pytest.mark.filterwarnings("ignore:.*lru_cache:UserWarning")  # of the names of norms, which may well be looked up
@pytest.mark.parametrize("options", [{}, {"constrained": False, "average": "lmo"}], ids=["Scion", "ALMOND"])
def test_a_compiled_step_is_one_graph_with_the_same_numbers_at_every_rate(options):
    torch.compiler.reset()
    graphs = []

    def backend(graph, inputs):
        graphs.append(graph)
        return graph.forward

    compiled, eager = of_recipe(gpt(1), **options), of_recipe(gpt(1), **options)
    rate = torch.tensor(0.0)
    for group in compiled.param_groups:
        group["lr"] = rate
    step = torch.compile(compiled.step, backend=backend, fullgraph=True)
    for k in range(STEPS):
        rate.fill_(2.0**-k)
        for group in eager.param_groups:
            group["lr"] = 2.0**-k
        for optimizer, move in ((compiled, step), (eager, eager.step)):
            set_gradients(optimizer, k)
            move()
    assert len(graphs) == 2  # without averages, and with them
    assert_same(compiled, eager, units=2 * STEPS)  # as for a tensor


# --- who takes it ---


class Own(nn.Parameter):
    """A parameter whose operations could be its own."""


def todo_of(*groups: dict) -> list[foreach.Todo]:
    optimizer = Scion([dict(group) for group in groups])
    set_gradients(optimizer, 0)
    return [(p, p.grad, group) for group in optimizer.param_groups for p in group["params"]]


def test_equal_groups_move_together_and_what_the_fast_path_cannot_do_is_left():
    a, b, c, d = (nn.Parameter(torch.eye(3)) for _ in range(4))
    left = [{"params": [Own(torch.eye(3))]}, {"params": [c], "foreach": False}, {"params": [d], "step_rule": "clipped"}]
    batches, rest = foreach.batches(todo_of({"params": [a]}, *left, {"params": [b], "foreach": True}))
    (batch,) = batches
    assert [id(parameter) for parameter in batch.parameters] == [id(a), id(b)]
    assert [id(parameter) for parameter, _, _ in rest] == [id(group["params"][0]) for group in left]


@pytest.mark.parametrize(
    "different",
    [{name: value} for name, value in [("lr", 0.1), ("momentum", 0.3), ("radius", 2.0), ("norm", "sign"),
     ("constrained", False), ("layout", "in_out"), ("blocks", 3), ("average", "none"), ("first_average", "gradient"),
     ("norm_options", {"steps": 3}), ("optimism", 0.5), ("period", 2), ("period_blocks", 3)]],
    ids=str,
)  # fmt: skip
def test_groups_that_differ_do_not(different):
    a, b = (nn.Parameter(torch.eye(3)) for _ in range(2))
    batches, _ = foreach.batches(todo_of({"params": [a]}, {"params": [b], **different}))
    assert [len(batch.parameters) for batch in batches] == [1, 1]


def test_no_option_is_forgotten_where_groups_are_compared():
    # what else there is are options of the other step rules, and the choice of the path
    assert set(DEFAULTS) - set(foreach.OPTIONS) == {
        "norm_options",
        "step_rule",
        "power",
        "scope",
        "smoothness",
        "foreach",
    }


@pytest.mark.parametrize("kind", [Scion, ScionLight])
def test_a_choice_that_is_none_is_refused(kind):
    with pytest.raises(UserError, match="foreach: 'yes' is not allowed: it must be None, True or False"):
        kind([nn.Parameter(torch.eye(3))], foreach="yes")
