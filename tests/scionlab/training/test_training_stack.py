"""Scion inside what PyTorch puts around training: compilation, autocast, loss scaling, accumulation, processes."""

import copy
import os

import pytest
import torch
import torch.distributed as dist
from small_models import Encoder
from torch import nn
from torch.nn import functional as F

from scionlab import Scion, ScionLight, initialize, param_groups
from scionlab.errors import UserError

STEPS = 6
BATCH = 8


@pytest.fixture(autouse=True)
def one_thread():
    """Several would wait for each other: the matrices are tiny."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def batches(steps: int = STEPS) -> torch.Tensor:
    """Tokens (steps, BATCH, 7): six of input, each followed by its target."""
    return torch.randint(11, (steps, BATCH, 7), generator=torch.Generator().manual_seed(0))


def encoder(dtype: torch.dtype = torch.float32) -> Encoder:
    model = Encoder(depth=1)
    initialize(param_groups(model, radii={"output": 16.0}), seed=0)
    return model.to(dtype)


def scion(model: nn.Module, kind: type[Scion] = Scion) -> Scion:
    return kind(param_groups(model, radii={"output": 16.0}), lr=2**-5, momentum=0.3)


def loss_of(model: nn.Module, tokens: torch.Tensor) -> torch.Tensor:
    return F.cross_entropy(model(tokens[:, :-1]).flatten(0, 1), tokens[:, 1:].flatten())


def train(model: nn.Module, optimizer: Scion, pieces: int = 1) -> list[float]:
    """The loss before every step; gradients are accumulated over `pieces` equal parts of a batch."""
    losses = []
    for tokens in batches():
        optimizer.zero_grad()
        parts = [loss_of(model, part) / pieces for part in tokens.chunk(pieces)]
        for part in parts:
            part.backward()
        optimizer.step()
        losses.append(sum(part.item() for part in parts))
    return losses


def weights(model: nn.Module) -> torch.Tensor:
    return torch.cat([parameter.detach().flatten() for parameter in model.parameters()])


@pytest.mark.parametrize("groups_of", ["the model", "the compiled model"])
def test_a_compiled_model_trains_as_it_does_without(groups_of):
    model = encoder()
    plain = copy.deepcopy(model)
    compiled = torch.compile(model, backend="aot_eager")
    losses = train(compiled, scion(model if groups_of == "the model" else compiled))
    # the same operations, some in another order: float32 rounding over six steps
    assert losses == pytest.approx(train(plain, scion(plain)), rel=1e-4)
    assert torch.allclose(weights(model), weights(plain), atol=1e-4)


def test_under_autocast_weights_and_averages_stay_in_float32():
    model, plain = encoder(), encoder()
    optimizer = scion(model)
    losses = []
    for tokens in batches():
        optimizer.zero_grad()
        with torch.autocast("cpu", dtype=torch.bfloat16):
            loss = loss_of(model, tokens)
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert {parameter.dtype for parameter in model.parameters()} == {torch.float32}
    assert {tensor.dtype for state in optimizer.state.values() for tensor in state.values()} == {torch.float32}
    # bfloat16 keeps 8 bits: each of the dozen roundings of a pass is by up to 2^-9. Later losses part: signs flip.
    first = train(plain, scion(plain))[0]
    assert losses[0] != first
    assert losses[0] == pytest.approx(first, rel=12 * 2**-9)
    assert losses[-1] < losses[0] / 2


def test_a_gradient_scaler_changes_nothing_and_skips_a_step_whose_gradients_overflow():
    model, plain = encoder(), encoder()
    optimizer, reference = scion(model), scion(plain)
    scaler = torch.amp.GradScaler("cpu", init_scale=2.0**10, growth_interval=100)
    for number, tokens in enumerate(batches()):
        before = weights(model)
        averages = [state["average"].clone() for state in optimizer.state.values()]
        optimizer.zero_grad()
        scaler.scale(loss_of(model, tokens)).backward()
        if number == 2:
            model.embed.weight.grad[0, 0] = torch.inf
        scaler.step(optimizer)
        scaler.update()
        if number == 2:
            assert torch.equal(weights(model), before)
            assert all(torch.equal(s["average"], a) for s, a in zip(optimizer.state.values(), averages, strict=True))
            assert scaler.get_scale() == 2.0**9
        else:
            reference.zero_grad()
            loss_of(plain, tokens).backward()
            reference.step()
    # scaling by a power of two and back is exact
    assert torch.equal(weights(model), weights(plain))


def test_scion_light_refuses_a_gradient_scaler():
    model = encoder()
    optimizer = scion(model, ScionLight)
    scaler = torch.amp.GradScaler("cpu")
    scaler.scale(loss_of(model, batches()[0])).backward()
    with pytest.raises(UserError, match="ScionLight: GradScaler"):
        scaler.step(optimizer)


@pytest.mark.parametrize("kind", [Scion, ScionLight])
@pytest.mark.parametrize("pieces", [2, 8])
def test_accumulated_gradients_are_those_of_the_whole_batch(kind, pieces):
    model, whole = encoder(torch.float64), encoder(torch.float64)
    losses = train(model, scion(model, kind), pieces)
    assert losses == pytest.approx(train(whole, scion(whole, kind)), rel=1e-10)
    assert torch.allclose(weights(model), weights(whole), rtol=0, atol=1e-10)


@pytest.mark.parametrize("kind", [Scion, ScionLight])
def test_training_goes_on_from_a_checkpoint_as_if_nothing_had_happened(kind, tmp_path):
    straight, model = encoder(), encoder()
    optimizer, reference = scion(model, kind), scion(straight, kind)
    train(straight, reference)
    train(straight, reference)
    train(model, optimizer)
    checkpoint = {"model": model.state_dict(), "optimizer": optimizer.state_dict()}
    if isinstance(optimizer, ScionLight):
        checkpoint["averages"] = optimizer.gradient_buffers()
    torch.save(checkpoint, tmp_path / "checkpoint.pt")

    found = torch.load(tmp_path / "checkpoint.pt", weights_only=True)
    again = Encoder(depth=1)
    again.load_state_dict(found["model"])
    optimizer = scion(again, kind)
    optimizer.load_state_dict(found["optimizer"])
    if isinstance(optimizer, ScionLight):
        optimizer.load_gradient_buffers(found["averages"])
    train(again, optimizer)
    assert torch.equal(weights(again), weights(straight))


def data_parallel(rank: int, folder: str) -> None:
    """One of two processes: trains on its half of every batch and leaves its weights in `folder`."""
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=2)
    for kind in (Scion, ScionLight):
        model = encoder(torch.float64)
        with torch.no_grad():  # DistributedDataParallel starts everybody from the weights of rank 0
            for parameter in model.parameters():
                parameter.add_(rank)
        parallel = nn.parallel.DistributedDataParallel(model)
        optimizer = scion(parallel, kind)
        for tokens in batches():
            optimizer.zero_grad()
            loss_of(parallel, tokens.chunk(2)[rank]).backward()
            optimizer.step()
        torch.save(weights(model), f"{folder}/{kind.__name__}-{rank}.pt")
    # Without taking anything down: torch joins gloo's threads while it holds the interpreter's lock, which they may be
    # waiting for, and then hangs.
    os._exit(0)


def test_two_processes_train_as_one_does_on_the_joined_batch(tmp_path):
    torch.multiprocessing.spawn(data_parallel, args=(str(tmp_path),), nprocs=2)
    for kind in (Scion, ScionLight):
        first, second = (torch.load(tmp_path / f"{kind.__name__}-{rank}.pt") for rank in (0, 1))
        assert torch.equal(first, second)
        alone = encoder(torch.float64)
        train(alone, scion(alone, kind))
        # sums over the batch in another order, in float64, over six steps
        assert torch.allclose(first, weights(alone), rtol=0, atol=1e-10)
