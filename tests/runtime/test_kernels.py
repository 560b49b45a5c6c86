"""Weight gradients of strided 1×1 convolutions: right, and without a corrupted heap, on processors of either kind."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest
import torch
from torch import nn

from robustprune.runtime.kernels import SoundGradients

GRADIENTS = """
import sys
import torch
from torch import nn
from robustprune.runtime.kernels import SoundGradients

torch.manual_seed(0)
torch.set_num_threads(int(sys.argv[1]))
kept = []
for channels in (2, 3, 4, 7, 9, 15, 16):
    for stride in (2, (2, 1), (1, 3)):
        for size in (16, 64):
            layer = nn.Conv2d(channels, 5, 1, stride=stride).to(memory_format=torch.channels_last)
            for _ in range(3):
                images = torch.rand(24, channels, size, size).contiguous(memory_format=torch.channels_last)
                layer.zero_grad()
                with SoundGradients():
                    layer(images).square().sum().backward()
                # The convolution as a product of matrices, in double precision, and its gradient by hand.
                rows, columns = layer.stride
                pixels = images[:, :, ::rows, ::columns].flatten(2).double()  # (N, C, pixels)
                weight, bias = layer.weight.detach().flatten(1).double(), layer.bias.detach().double()
                output = weight @ pixels + bias[:, None]
                expected = (2 * output @ pixels.mT).sum(0)
                found = layer.weight.grad.flatten(1).double()
                assert (found - expected).abs().max() < 1e-5 * expected.abs().max(), (channels, stride, size)
                kept = kept[-9:] + [torch.rand(1000 + 17 * size)]  # where a corrupted heap is found out
print("sound")
"""

LIFE = """
import sys
import torch
from torch import nn
import robustprune as rp
from robustprune.data import ImageData, InMemorySplit
from robustprune.tickets import prune_filters, prune_weights
from robustprune.pruning import score_filters

torch.manual_seed(0)
torch.set_num_threads(int(sys.argv[1]))
images = torch.randint(256, (60, 3, 32, 32), dtype=torch.uint8)
# Channels-last from the start, as arrays of (N, H, W, C) are when their axes are moved.
split = InMemorySplit(images.contiguous(memory_format=torch.channels_last), torch.arange(60) % 3)
data = ImageData("noise", ("a", "b", "c"), (0.5,) * 3, (0.25,) * 3, True, train=split, test=split)
model = rp.build_model("resnet20", data, width=4).to(memory_format=torch.channels_last)
for criterion in ("snip", "grasp", "synflow"):
    scores = rp.score_blocks(model, data, criterion=criterion)
tickets = {
    "none": rp.prune_layers(model, scores, blocks=2, data=data),
    "fgsm": prune_filters(model, score_filters(model, [f"{block}.conv1" for block in scores], data, "snip"), filters=8),
    "trades": prune_weights(model, data, criterion="snip", sparsity=0.5),
}
for adversarial, ticket in tickets.items():
    ticket = rp.train(ticket, data, epochs=2, batch_size=30, adversarial=adversarial, country=None)
    rp.evaluate(ticket, data, attacks=["fgsm"])
print("sound")
"""

OTHER_CALLS = """
import sys
import warnings
import torch
from torch import nn
from robustprune.runtime.kernels import sound_gradients

torch.manual_seed(0)
torch.set_num_threads(int(sys.argv[1]))
layer = nn.Conv2d(4, 5, 1, stride=2).to(memory_format=torch.channels_last)
weight, bias, aten = layer.weight, layer.bias, torch.ops.aten
rest = ((2, 2), (0, 0), (1, 1), False, (0, 0), 1)
graph = torch.export.export(layer, (torch.rand(24, 4, 64, 64),)).module()
script = torch.jit.script(layer)
calls = {
    "a function": (layer, lambda x: torch.convolution(x, weight, bias, *rest)),
    "an inner function": (layer, lambda x: torch._convolution(x, weight, bias, *rest, False, False, True, True)),
    "an operation": (layer, lambda x: aten.conv2d(x, weight, bias, [2, 2])),
    "an overload": (layer, lambda x: aten.convolution.default(x, weight, bias, *map(list, rest[:3]), *rest[3:])),
    "exported": (graph, graph),
    "scripted": (nn.Sequential(script), script),
    "traced": (nn.Sequential(script), torch.jit.trace(layer, torch.rand(24, 4, 64, 64))),
}
kept = []
for name, (network, call) in calls.items():
    for _ in range(9):
        images = torch.rand(24, 4, 64, 64).contiguous(memory_format=torch.channels_last)
        weights = [w for w in (*network.parameters(), *layer.parameters()) if w.ndim == 4]
        for w in weights:
            w.grad = None
        with sound_gradients(network):
            output = call(images)
            output.square().sum().backward()
        assert torch.backends.mkldnn.enabled
        expected = 2 * output.detach().flatten(2).double() @ images[:, :, ::2, ::2].flatten(2).double().mT
        found = next(w.grad for w in weights if w.grad is not None).flatten(1).double()
        assert (found - expected.sum(0)).abs().max() < 1e-5 * expected.sum(0).abs().max(), name
        kept = kept[-9:] + [torch.rand(1000)]
print("sound")
"""


@pytest.mark.slow
@pytest.mark.parametrize(
    ("program", "widest", "threads"),
    [(OTHER_CALLS, "AVX2", "1"), (GRADIENTS, "AVX2", "1"), (GRADIENTS, "AVX512_CORE", "2"), (LIFE, "AVX2", "1")],
    ids=["other-calls", "gradients-avx2", "gradients-avx512", "life-avx2"],
)
def test_no_weight_gradient_overruns_memory(program: str, threads: str, widest: str) -> None:
    # Threads of processes that share a core are not to spin while they wait for each other.
    settings = {"ONEDNN_MAX_CPU_ISA": widest, "OMP_NUM_THREADS": threads, "GOMP_SPINCOUNT": "1000"}
    run = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", program, threads],
        env={**os.environ, **settings},
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    assert (run.returncode, run.stdout) == (0, "sound\n"), run.stderr


@pytest.mark.parametrize("channels", [4, 24])
@pytest.mark.parametrize("arguments", [{"stride": 2}, {"stride": (1, 2)}, {"stride": 2, "padding": 1}, {"groups": 2}])
def test_a_sound_convolution_is_the_same_function(channels: int, arguments: dict[str, object]) -> None:
    layer = nn.Conv2d(channels, 6, 1, **arguments)  # type: ignore[arg-type]
    images = torch.rand(3, channels, 9, 7, requires_grad=True)
    expected = layer(images)
    with SoundGradients():
        found = layer(images)
        assert layer(images[0]).shape == expected.shape[1:]
        valid = nn.functional.conv2d(images, layer.weight, stride=2, padding="valid", groups=layer.groups)
        assert valid.shape == (3, 6, 5, 4)
    torch.testing.assert_close(found, expected)
    for tensor in (images, *layer.parameters()):
        (wanted,), (got,) = (
            torch.autograd.grad(y.square().sum(), tensor, retain_graph=True) for y in (expected, found)
        )
        torch.testing.assert_close(got, wanted, rtol=1e-4, atol=1e-5)
