"""Multiply-accumulates of every layer that holds weights, and of the functions behind them, against hand counts."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.utils import parametrizations
from torch.utils.checkpoint import checkpoint
from torchvision.ops import DeformConv2d

from robustprune.cost import measure_block_macs, measure_cost, measure_memory
from robustprune.errors import ModelError, ModelWarning
from robustprune.pruning import Block


def macs(network: nn.Module, *shape: int) -> int:
    return measure_cost(network, torch.rand(3, *shape)).macs


class Calling(nn.Module):
    """A network that is one function of its images and parameters."""

    def __init__(self, function: Callable[..., Tensor], **shapes: tuple[int, ...]) -> None:
        super().__init__()
        self.function = function
        self.weights = nn.ParameterDict({name: torch.rand(shape) for name, shape in shapes.items()})

    def forward(self, images: Tensor) -> Tensor:
        return self.function(images, **self.weights)


class Deformable(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.offsets, self.mix = nn.Conv2d(4, 18, 3, padding=1), DeformConv2d(4, 6, 3, padding=1, groups=2)

    def forward(self, images: Tensor) -> Tensor:
        return self.mix(images, self.offsets(images))


class Attention(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.attention = nn.MultiheadAttention(8, 2, batch_first=True)

    def forward(self, tokens: Tensor) -> Tensor:
        return self.attention(tokens, tokens, tokens, need_weights=False)[0]


def first_of(layer: nn.Module) -> nn.Module:
    class First(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = layer

        def forward(self, images: Tensor) -> Tensor:
            return self.layer(images)[0]

    return First()


RECURRENT = 5 * 6 + 6 * 6  # one gate: inputs × hidden + hidden × hidden

LAYERS: dict[str, tuple[nn.Module, tuple[int, ...], int]] = {
    "linear": (nn.Linear(5, 7), (4, 5), 4 * 35),
    "conv1d": (nn.Conv1d(2, 6, 3), (2, 10), 6 * 2 * 3 * 8),
    "conv2d in groups": (nn.Conv2d(4, 6, 3, groups=2, stride=2, padding=1), (4, 8, 8), 6 * 2 * 9 * 16),
    "conv3d": (nn.Conv3d(2, 3, 3), (2, 5, 5, 5), 3 * 2 * 27 * 27),
    "transposed 1d": (nn.ConvTranspose1d(2, 6, 3, stride=2), (2, 10), 2 * 6 * 3 * 10),
    "transposed 2d": (nn.ConvTranspose2d(4, 6, 3, groups=2), (4, 8, 8), 4 * 3 * 9 * 64),
    "transposed 3d": (nn.ConvTranspose3d(2, 3, 3), (2, 5, 5, 5), 2 * 3 * 27 * 125),
    "deformable": (Deformable(), (4, 8, 8), 18 * 4 * 9 * 64 + 6 * 2 * 9 * 64),
    "rnn": (first_of(nn.RNN(5, 6, batch_first=True)), (4, 5), 4 * RECURRENT),
    "lstm": (first_of(nn.LSTM(5, 6, batch_first=True)), (4, 5), 4 * 4 * RECURRENT),
    "two-way lstm": (
        first_of(nn.LSTM(5, 6, num_layers=2, bidirectional=True, batch_first=True)),
        (4, 5),
        4 * 4 * 2 * (RECURRENT + 12 * 6 + 6 * 6),
    ),
    "gru": (first_of(nn.GRU(5, 6, batch_first=True)), (4, 5), 4 * 3 * RECURRENT),
    "rnn cell": (nn.RNNCell(5, 6), (5,), RECURRENT),
    "lstm cell": (first_of(nn.LSTMCell(5, 6)), (5,), 4 * RECURRENT),
    "gru cell": (nn.GRUCell(5, 6), (5,), 3 * RECURRENT),
    "attention": (Attention(), (5, 8), 4 * 5 * 8 * 8 + 2 * 5 * 5 * 8),
    "encoder": (
        nn.TransformerEncoderLayer(8, 2, 16, batch_first=True),
        (5, 8),
        4 * 5 * 8 * 8 + 2 * 5 * 5 * 8 + 2 * 5 * 8 * 16,
    ),
    "spectral": (parametrizations.spectral_norm(nn.Linear(5, 7)), (5,), 35),
    "orthogonal": (parametrizations.orthogonal(nn.Linear(5, 7)), (5,), 35),
    "weight norm": (parametrizations.weight_norm(nn.Linear(5, 7)), (5,), 35),
    "older spectral": (nn.utils.spectral_norm(nn.Linear(5, 7)), (5,), 35),
}

FUNCTIONS: dict[str, tuple[nn.Module, tuple[int, ...], int]] = {
    "linear": (Calling(lambda x, w: functional.linear(x, w), w=(7, 5)), (5,), 35),
    "conv2d": (Calling(lambda x, w: functional.conv2d(x, w), w=(6, 4, 3, 3)), (4, 8, 8), 6 * 4 * 9 * 36),
    "matmul": (Calling(lambda x, w: x @ w, w=(5, 7)), (4, 5), 4 * 35),
    "matrix by vector": (Calling(lambda x, w: x @ w, w=(5,)), (5,), 5),
    "addmv": (Calling(lambda x, b, w: torch.addmv(b, x, w), b=(1,), w=(5,)), (5,), 5),
    "addmm": (Calling(lambda x, b, w: torch.addmm(b, x, w), b=(7,), w=(5, 7)), (5,), 35),
    "einsum": (Calling(lambda x, w: torch.einsum("blc,cd->bld", x, w), w=(5, 7)), (4, 5), 4 * 35),
    "tensordot": (Calling(lambda x, w: torch.tensordot(x, w, 1), w=(5, 7)), (4, 5), 4 * 35),
    "bmm": (Calling(lambda x: torch.bmm(x, x.mT)), (4, 5), 4 * 4 * 5),
    "baddbmm": (Calling(lambda x, b: torch.baddbmm(b, x, x.mT), b=(1,)), (4, 5), 4 * 4 * 5),
    "addbmm": (Calling(lambda x, b: torch.addbmm(b, x, x.mT), b=(1,)), (4, 5), 4 * 4 * 5),
    "attention": (
        Calling(lambda x: functional.scaled_dot_product_attention(x, x, x)),
        (2, 5, 4),
        2 * 2 * 5 * 5 * 4,
    ),
    "unfolded": (Calling(lambda x, w: w @ functional.unfold(x, 3), w=(6, 36)), (4, 8, 8), 6 * 36 * 36),
    "reentrant": (
        Calling(lambda x, w: checkpoint(lambda v: functional.linear(v, w), x, use_reentrant=True), w=(7, 5)),
        (5,),
        35,
    ),
    "not reentrant": (
        Calling(lambda x, w: checkpoint(lambda v: functional.linear(v, w), x, use_reentrant=False), w=(7, 5)),
        (5,),
        35,
    ),
    "no product": (Calling(lambda x, w: torch.fft.rfft2(x).abs() * w, w=(1,)), (4, 8, 8), 0),
}


@pytest.mark.filterwarnings("ignore:None of the inputs have requires_grad:UserWarning")
@pytest.mark.parametrize(
    ("network", "shape", "expected"),
    [pytest.param(*case, id=name) for cases in (LAYERS, FUNCTIONS) for name, case in cases.items()],
)
def test_layers_and_functions_by_hand(network: nn.Module, shape: tuple[int, ...], expected: int) -> None:
    assert macs(network, *shape) == expected


@given(st.integers(1, 6), st.integers(1, 6), st.integers(1, 6), st.lists(st.integers(1, 4), max_size=2))
def test_a_bilinear_layer_multiplies_each_weight_once_at_each_position(
    first: int, second: int, outputs: int, positions: list[int]
) -> None:
    class Network(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.mix = nn.Bilinear(first, second, outputs)

        def forward(self, images: Tensor) -> Tensor:
            return self.mix(images[..., :first], images[..., first:])

    network = Network()
    expected = network.mix.weight.numel() * int(torch.tensor(positions).prod())
    assert macs(network, *positions, first + second) == expected


def small() -> nn.Sequential:
    layers = nn.Conv2d(4, 6, 3), nn.BatchNorm2d(6), nn.ReLU(), nn.Flatten(), nn.Linear(216, 2)
    return nn.Sequential(*layers).eval()


SMALL = 6 * 4 * 9 * 36 + 432
SCRIPTING = "ignore:.*torch.jit.*deprecated"


@pytest.mark.filterwarnings(SCRIPTING)
@pytest.mark.parametrize(
    "change",
    [
        torch.jit.script,
        lambda network: torch.jit.trace(network, torch.rand(2, 4, 8, 8)),
        lambda network: torch.jit.freeze(torch.jit.script(network)),
        lambda network: torch.compile(network, backend="eager"),
        torch.fx.symbolic_trace,
        lambda network: network.double(),
        lambda network: network.half(),
        lambda network: network.bfloat16(),
        lambda network: network.to(memory_format=torch.channels_last),
    ],
    ids=["scripted", "traced", "frozen", "compiled", "fx", "double", "half", "bfloat16", "channels last"],
)
def test_forms_of_one_network(change: Callable[[nn.Module], Any]) -> None:
    network = change(small())
    example = torch.rand(3, 4, 8, 8).to(next(network.parameters(), torch.zeros(())).dtype)
    assert measure_cost(network, example).macs == SMALL
    memory, plain = (measure_memory(each, 4, example) for each in (network, small().to(example.dtype)))
    assert memory.inference_activations == plain.inference_activations


def test_a_compiled_networks_blocks() -> None:
    network = torch.compile(small(), backend="eager")
    block = Block("_orig_mod.4", depth=0, stage=0, position=0, stage_size=1, parameters=434, residue=None)
    assert measure_block_macs(network, [block], torch.rand(3, 4, 8, 8)) == {"_orig_mod.4": 432}


@pytest.mark.filterwarnings("ignore::DeprecationWarning", SCRIPTING, "ignore:torch.quantize_per_tensor:UserWarning")
def test_products_that_nothing_sees_are_named() -> None:
    from torch.ao.quantization import quantize_dynamic

    with pytest.warns(ModelWarning, match=r"leave out the products that quantized::linear_dynamic hides; count"):
        assert macs(quantize_dynamic(small(), {nn.Linear}), 4, 8, 8) == SMALL - 432
    with pytest.warns(ModelWarning, match=r"aten::to_mkldnn hides"):
        macs(torch.jit.optimize_for_inference(torch.jit.script(small())), 4, 8, 8)
    with pytest.warns(ModelWarning, match=r"aten::_sparse_addmm hides"):
        macs(Calling(lambda x, w: torch.sparse.mm(w.to_sparse(), x.T), w=(7, 5)), 5)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        macs(small(), 4, 8, 8)


def test_a_network_that_does_not_run() -> None:
    with pytest.raises(ModelError, match=r"the model cannot run on images of shape \(3, 5, 8, 8\)"):
        macs(small(), 5, 8, 8)
