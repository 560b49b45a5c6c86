"""One small network in the forms in which networks come, all of the same weights."""

from __future__ import annotations

import functools
import io
import warnings
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, fx, nn

IMAGES = torch.rand(8, 3, 8, 8, generator=torch.Generator().manual_seed(1))


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.convolution = nn.Conv2d(3, 4, 3)
        self.normalization = nn.BatchNorm2d(4)
        self.dropout = nn.Dropout(0.5)
        self.head = nn.Linear(4, 5)

    def forward(self, images: Tensor) -> Tensor:
        maps = self.normalization(self.convolution(images)).relu()
        return self.head(self.dropout(maps.mean(dim=(2, 3))))


class SilentModes(Net):
    def eval(self) -> None:  # type: ignore[override]
        super().eval()

    def train(self, mode: bool = True) -> None:  # type: ignore[override]
        super().train(mode)


class Around(nn.Module):
    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner = inner

    def forward(self, images: Tensor) -> Tensor:
        return self.inner(images)  # type: ignore[no-any-return]


class Service:
    """No module, but it holds one."""

    def __init__(self, network: nn.Module) -> None:
        self.network = network

    def __call__(self, images: Tensor) -> Tensor:
        return self.network(images)  # type: ignore[no-any-return]

    def predict(self, images: Tensor) -> Tensor:
        return self.network(images)  # type: ignore[no-any-return]


def make_net(kind: type[Net] = Net) -> Net:
    """Return the network in training mode, with statistics as after training."""
    torch.manual_seed(0)
    network = kind()
    with torch.no_grad():
        network.head.weight *= 8
        network.normalization.running_mean += 0.1  # type: ignore[operator]
        network.normalization.running_var *= 0.2  # type: ignore[operator]
        # So that the images are of several classes.
        network.eval()
        network.head.bias -= network(IMAGES).mean(dim=0)
        network.train()
    return network


GLOBAL = make_net()


def call_global(images: Tensor) -> Tensor:
    return GLOBAL(images)  # type: ignore[no-any-return]


def call_indirectly(images: Tensor) -> Tensor:
    return call_global(images) + 0


def script(network: nn.Module) -> Any:
    return torch.jit.script(network)


def save_and_load(network: Any) -> Any:
    file = io.BytesIO()
    torch.jit.save(network, file)
    file.seek(0)
    return torch.jit.load(file)


def export(network: nn.Module) -> Any:
    sizes = {"images": {0: torch.export.Dim.AUTO}}
    return torch.export.export(network, (IMAGES,), dynamic_shapes=sizes).module()


def compiled_in_place(network: nn.Module) -> nn.Module:
    network.compile(backend="eager")
    return network


def closure(network: nn.Module) -> Callable[[Tensor], Tensor]:
    return lambda images: network(images)


MODULES: dict[str, Callable[[], Any]] = {
    "plain": make_net,
    "script": lambda: script(make_net()),
    "script of evaluation mode": lambda: script(make_net().eval()),
    "trace": lambda: torch.jit.trace(make_net().eval(), IMAGES),
    "loaded script": lambda: save_and_load(script(make_net())),
    "frozen script": lambda: torch.jit.freeze(script(make_net().eval())),
    "loaded frozen script": lambda: save_and_load(torch.jit.freeze(script(make_net().eval()))),
    "export": lambda: export(make_net().eval()),
    "compiled": lambda: torch.compile(make_net(), backend="eager"),
    "compiled in place": lambda: compiled_in_place(make_net()),
    "silent modes": lambda: make_net(SilentModes),
    "data parallel": lambda: nn.DataParallel(make_net()),
    "graph": lambda: fx.symbolic_trace(make_net()),
    "around a script": lambda: Around(script(make_net())),
    "around a frozen script": lambda: Around(torch.jit.freeze(script(make_net().eval()))),
    "around an export": lambda: Around(export(make_net().eval())),
    "around a compiled one": lambda: Around(torch.compile(make_net(), backend="eager")),  # type: ignore[arg-type]
}
FUNCTIONS: dict[str, Callable[[], Any]] = {
    "function": lambda: call_global,
    "function of a function": lambda: call_indirectly,
    "closure": lambda: closure(make_net()),
    "partial": lambda: functools.partial(call_global),
    "partial of a module": lambda: functools.partial(make_net()),
    "bound forward": lambda: make_net().forward,
    "object": lambda: Service(make_net()),
    "method of an object": lambda: Service(make_net()).predict,
    "without gradients": lambda: torch.no_grad()(closure(make_net())),
}


def make(name: str) -> Any:
    """Return the network in one of its forms, without what torch says of forms that it is to give up."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return {**MODULES, **FUNCTIONS}[name]()


def expected_logits(images: Tensor = IMAGES) -> Tensor:
    with torch.no_grad():
        return make_net().eval()(images)  # type: ignore[no-any-return]


def expected_gradient(images: Tensor, labels: Tensor) -> Tensor:
    leaf = images.clone().requires_grad_()
    loss = nn.functional.cross_entropy(make_net().eval()(leaf), labels, reduction="sum")
    return torch.autograd.grad(loss, leaf)[0]
