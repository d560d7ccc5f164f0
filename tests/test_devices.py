"""Every model on a GPU that is not there: nothing is left or made on the CPU, and no forward pass waits for a value.

Backward passes run on `meta`: autograd asks a driver for the streams of `cuda`, and here there is none.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator

import pytest
import torch
from torch import Tensor, nn

from hybridvit.components.blocks import BlockModule, BranchModule
from hybridvit.components.linear_attention import CrossCovarianceAttention, LinearProduct
from hybridvit.encoder import Encoder, StageModule
from hybridvit.families.swiftformer import AdditiveAttention
from hybridvit.meta import without_memory
from hybridvit.spec import Grid
from tests.devices import fake_gpu, faults
from tests.parity import features_and_embedding
from tests.representatives import representatives, traced_by_default, traced_spec

pytestmark = pytest.mark.skipif(not torch.backends.cuda.is_built(), reason="needs a build of PyTorch for CUDA")

# Neither the size that the models are built for, nor square, nor what all windows divide; one odd, one even.
SIZES = ((80, 112), (131, 75))


@pytest.fixture(scope="module", params=representatives())
def name(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture(
    scope="module",
    params=[
        pytest.param(name, marks=() if name in traced_by_default() else pytest.mark.slow) for name in representatives()
    ],
)
def gpu_name(request: pytest.FixtureRequest) -> str:
    """As `name`, but all except those that cover every component are slow: fake tensors take longer than `meta`."""
    return request.param


def empty_model(name: str) -> Encoder:
    """A representative, shortened, on `meta`."""
    with without_memory():
        return traced_spec(name).build()


def pictures(size: tuple[int, int], dtype: torch.dtype = torch.float32, device: str = "cuda") -> Tensor:
    return torch.empty(2, 3, *size, dtype=dtype, device=device)


@contextlib.contextmanager
def stream_dtypes(model: Encoder) -> Iterator[set[torch.dtype]]:
    """The dtypes of what stages, blocks and branches give while they run."""
    seen: set[torch.dtype] = set()

    def note(module: nn.Module, inputs: object, output: Tensor | tuple[Tensor, Grid]) -> None:
        seen.add((output if isinstance(output, Tensor) else output[0]).dtype)

    parts = [part for part in model.modules() if isinstance(part, StageModule | BlockModule | BranchModule)]
    handles = [part.register_forward_hook(note) for part in parts]
    try:
        yield seen
    finally:
        for handle in handles:
            handle.remove()


def test_a_training_step_stays_on_the_device(name: str):
    model = empty_model(name).train()
    model.set_drop_path(0.1)
    batch = pictures(SIZES[0], device="meta")
    assert faults(lambda: model(batch).square().mean().backward(), "meta") == []
    unlearned = [key for key, parameter in model.named_parameters() if parameter.grad is None]
    assert not unlearned


def test_a_forward_pass_stays_on_the_gpu(gpu_name: str):
    model = empty_model(gpu_name).train()
    model.set_drop_path(0.1)
    with fake_gpu(model):
        batch = pictures(SIZES[0])
        assert faults(lambda: model(batch)) == []


@pytest.mark.slow
@pytest.mark.parametrize("size", SIZES)
def test_what_a_model_gives_stays_on_the_gpu(name: str, size: tuple[int, int]):
    """Attention maps come from a forward pass, and that has the embedding on its way."""
    model = empty_model(name).eval()
    with fake_gpu(model):
        batch = pictures(size)
        assert faults(lambda: model.features(batch)) == []
        assert faults(lambda: model.attention_maps(batch)) == []


@pytest.mark.slow
def test_a_half_model_is_half_throughout(name: str):
    """No block hands on a wider stream than the weights are, for that is memory and time for nothing."""
    model = empty_model(name).half().eval()
    with fake_gpu(model), stream_dtypes(model) as stream:
        batch = pictures(SIZES[0], torch.float16)
        given: list[Tensor] = []

        def run() -> None:
            maps, embedding = features_and_embedding(model, batch)
            given.extend([*maps, embedding, model.forward_head(embedding)])

        assert faults(run) == []
    assert {tensor.dtype for tensor in given} == {torch.float16}
    assert stream == {torch.float16}


@pytest.mark.slow
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_autocast_stays_on_the_gpu(name: str, dtype: torch.dtype):
    """Logits are half. The stream is where half meets parameters in single precision, and then single."""
    model = empty_model(name).train()
    with fake_gpu(model), stream_dtypes(model) as stream:
        batch = pictures(SIZES[0])
        logits: list[Tensor] = []
        with torch.autocast("cuda", dtype=dtype):
            assert faults(lambda: logits.append(model(batch))) == []
    assert logits[0].dtype == dtype
    assert stream <= {dtype, torch.float32}


def moved(x: Tensor) -> Tensor:
    return x + torch.arange(4.0).to(x.device)


PLANTED: dict[str, tuple[Callable[[Tensor], object], list[str]]] = {
    "a constant without a device": (lambda x: x * torch.ones(()), ["elsewhere: aten.ones", "copied: aten.mul"]),
    "a constant that is moved": (moved, ["elsewhere: aten.arange", "copied: aten._to_copy"]),
    "an index on the CPU": (
        lambda x: x[torch.zeros(2, dtype=torch.long)],
        ["elsewhere: aten.zeros", "copied: aten.index"],
    ),
    "a number put on the device": (
        lambda x: x * torch.tensor(2.0, device=x.device),
        ["elsewhere: aten.lift_fresh", "copied: aten._to_copy"],
    ),
    "a copy to the CPU": (lambda x: x.cpu(), ["copied: aten._to_copy"]),
    "the same by name": (lambda x: x.to("cpu"), ["copied: aten._to_copy"]),
    "a number": (lambda x: x.sum().item(), ["read: aten._local_scalar_dense"]),
    "a list": (lambda x: x[0].tolist(), ["read: aten._local_scalar_dense"]),
    "a branch": (lambda x: x if x.sum() > 0 else -x, ["read: aten._local_scalar_dense"]),
    "a comparison": (lambda x: torch.equal(x, x + 1), ["read: aten.equal"]),
    "places": (lambda x: x.nonzero(), ["read: aten.nonzero"]),
    "a selection": (lambda x: x[x > 0], ["read: aten.index"]),
}


class Planted(nn.Module):
    def __init__(self, fault: Callable[[Tensor], object]) -> None:
        super().__init__()
        self.fault = fault

    def forward(self, x: Tensor) -> object:
        return self.fault(x)


@pytest.mark.parametrize("what", PLANTED)
def test_a_planted_fault_is_found(what: str):
    fault, expected = PLANTED[what]
    with fake_gpu():
        found = faults(lambda: Planted(fault)(torch.empty(3, 4, device="cuda")))
    assert [line.split(".default")[0].split(".Tensor")[0].split(".start")[0] for line in found] == expected
    assert all("tests/test_devices.py" in line for line in found)


def test_a_tensor_that_the_module_keeps_from_itself_is_found():
    """One that is neither parameter nor buffer does not move with the module."""
    kept = torch.ones(())
    layer = Planted(lambda x: x * kept)
    with fake_gpu(layer):
        (found,) = faults(lambda: layer(torch.empty(3, 4, device="cuda")))
    assert found.startswith("copied: aten.mul.Tensor")


def test_what_stays_on_the_gpu_is_no_fault():
    with fake_gpu():
        layer = nn.Linear(4, 4, device="cuda")
        assert faults(lambda: layer(torch.empty(3, 4, device="cuda")) + torch.arange(4.0, device="cuda") * 2.0) == []


def test_a_wide_stream_is_found():
    model = empty_model("vit_xsmall_patch16_clip_224").half().eval()
    *_, last = (part for part in model.modules() if isinstance(part, BlockModule))
    last.register_forward_hook(lambda module, inputs, output: output.float())
    with stream_dtypes(model) as stream, contextlib.suppress(RuntimeError):
        model(pictures(SIZES[0], torch.float16, "meta"))
    assert torch.float32 in stream


@pytest.mark.parametrize("mixer", [CrossCovarianceAttention(heads=2), AdditiveAttention()])
def test_zeros_stay_finite_in_half_precision(mixer: CrossCovarianceAttention | AdditiveAttention):
    """Vectors of length zero have no direction; they are divided by an eps, and half precision must hold that."""
    module = mixer.build(8, Grid(2, 3))
    for parameter in module.parameters():
        nn.init.zeros_(parameter)
    assert torch.isfinite(module.half()(torch.zeros(1, 6, 8).half(), Grid(2, 3))).all()


def test_maps_of_linear_attention_keep_their_precision_under_autocast():
    attend, (query, key) = LinearProduct(1.0), torch.rand(2, 1, 2, 6, 8).unbind(0)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        weights = attend.weights(query, key)
    assert torch.equal(weights, attend.weights(query, key))
