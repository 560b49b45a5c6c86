"""Small residual networks for 3×16×16 images that reach, build, call or share their blocks in unusual ways.

Each class builds like a user's network, ``Net(num_classes, channels)``. The file can be named as ``file:…:Net``.
"""

from __future__ import annotations

import functools
import warnings
from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrizations, parametrize
from torch.utils.checkpoint import checkpoint

WIDTH = 8


def branch(width: int, norm: Callable[[int], nn.Module] = nn.BatchNorm2d) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(width, width, 3, padding=1, bias=False),
        norm(width),
        nn.ReLU(),
        nn.Conv2d(width, width, 3, padding=1, bias=False),
        norm(width),
    )


class Block(nn.Module):
    def __init__(self, width: int = WIDTH, norm: Callable[[int], nn.Module] = nn.BatchNorm2d) -> None:
        super().__init__()
        self.branch = branch(width, norm)

    def forward(self, x: Tensor) -> Tensor:
        return (x + self.branch(x)).relu()


class Plain(nn.Module):
    """Stem, four blocks, head: what the others vary."""

    def __init__(self, num_classes: int = 3, channels: int = 3) -> None:
        super().__init__()
        self.stem = nn.Conv2d(channels, WIDTH, 3, padding=1)
        self.blocks = nn.Sequential(*(self.make() for _ in range(4)))
        self.head = nn.Linear(WIDTH, num_classes)
        self.wire()

    def make(self) -> nn.Module:
        return Block()

    def wire(self) -> None: ...

    def shorten(self, place: int) -> None:
        """Be built without one of the blocks."""
        del self.blocks[place]

    def body(self, x: Tensor) -> Tensor:
        for block in self.blocks:
            x = block(x)
        return x

    def forward(self, images: Tensor) -> Tensor:
        return self.head(self.body(self.stem(images).relu()).mean((2, 3)))


# Reached by other ways than their name.


class InList(Plain):
    def wire(self) -> None:
        self.order = list(self.blocks)

    def shorten(self, place: int) -> None:
        super().shorten(place)
        self.wire()

    def body(self, x: Tensor) -> Tensor:
        for block in self.order:
            x = block(x)
        return x


class InNestedDict(InList):
    def wire(self) -> None:
        self.order = {"first": [self.blocks[0]], "rest": {"all": tuple(self.blocks[1:])}}

    def body(self, x: Tensor) -> Tensor:
        for block in (*self.order["first"], *self.order["rest"]["all"]):
            x = block(x)
        return x


class ByClosure(InList):
    def wire(self) -> None:
        self.order = [lambda x, block=block: block(x) for block in self.blocks]


class ByBoundMethod(InList):
    def wire(self) -> None:
        self.order = [block.forward for block in self.blocks]


class ByPartial(InList):
    def wire(self) -> None:
        self.order = [functools.partial(block) for block in self.blocks]


class UnderSecondName(Plain):
    """Registered twice; the network calls the second name."""

    def wire(self) -> None:
        for place, block in enumerate(self.blocks):
            setattr(self, f"stage_{place}", block)

    def shorten(self, place: int) -> None:
        delattr(self, f"stage_{len(self.blocks) - 1}")
        Plain.shorten(self, place)
        self.wire()

    def body(self, x: Tensor) -> Tensor:
        for place in range(len(self.blocks)):
            x = getattr(self, f"stage_{place}")(x)
        return x


class InSlices(Plain):
    """Calls containers that it makes of registered blocks."""

    def body(self, x: Tensor) -> Tensor:
        return self.blocks[2:](self.blocks[:2](x))


class AsHiddenAttribute(Plain):
    def wire(self) -> None:
        for place, block in enumerate(self.blocks):
            self.__dict__[f"stage_{place}"] = block

    shorten = UnderSecondName.shorten
    body = UnderSecondName.body


class Unregistered(Plain):
    """Blocks in a plain list only, beside registered ones."""

    def wire(self) -> None:
        self.more = [Block(), Block()]

    def body(self, x: Tensor) -> Tensor:
        for block in (*self.blocks, *self.more):
            x = block(x)
        return x


class AllUnregistered(Plain):
    def wire(self) -> None:
        self.order = list(self.blocks)
        self.blocks = nn.Sequential()

    body = InList.body


class UsesWeightsOfBlock(Plain):
    """A function of the parent computes with a block's weights, by a reference of its own."""

    def wire(self) -> None:
        self.kept = [self.blocks[1].branch[0]]

    def body(self, x: Tensor) -> Tensor:
        return super().body(nn.functional.conv2d(x, self.kept[0].weight, padding=1))


# Weights that are computed.


def parametrized(parametrize_layer: Callable[[nn.Module], Any]) -> Callable[[Any], nn.Module]:
    def make(_self: Any) -> nn.Module:
        block = Block()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)  # the old style
            for module in list(block.modules()):
                if isinstance(module, nn.Conv2d):
                    parametrize_layer(module)
        return block

    return make


class SpectralNorm(Plain):
    make = parametrized(parametrizations.spectral_norm)


class SpectralNormOld(Plain):
    make = parametrized(nn.utils.spectral_norm)


class WeightNorm(Plain):
    make = parametrized(parametrizations.weight_norm)


class WeightNormOld(Plain):
    make = parametrized(nn.utils.weight_norm)


class Orthogonal(Plain):
    make = parametrized(parametrizations.orthogonal)


class Exponential(nn.Module):
    def forward(self, weight: Tensor) -> Tensor:
        return weight.exp() - 0.9


class NeverZero(Plain):
    make = parametrized(lambda layer: parametrize.register_parametrization(layer, "weight", Exponential()))


class StandardizedConv2d(nn.Conv2d):
    def forward(self, x: Tensor) -> Tensor:
        weight = self.weight
        weight = (weight - weight.mean((1, 2, 3), keepdim=True)) / weight.std((1, 2, 3), keepdim=True)
        return nn.functional.conv2d(x, weight, self.bias, padding=self.padding)


class Standardized(Plain):
    def make(self) -> nn.Module:
        block = Block(norm=lambda width: nn.GroupNorm(1, width))
        block.branch[0] = StandardizedConv2d(WIDTH, WIDTH, 3, padding=1, bias=False)
        block.branch[3] = StandardizedConv2d(WIDTH, WIDTH, 3, padding=1, bias=False)
        return block


# Normalization without parameters.


class NonAffine(Plain):
    def make(self) -> nn.Module:
        return Block(norm=lambda width: nn.BatchNorm2d(width, affine=False))


class NonAffineInstanceNorm(Plain):
    def make(self) -> nn.Module:
        return Block(norm=lambda width: nn.InstanceNorm2d(width, track_running_stats=True))


class NonAffineGroupNorm(Plain):
    def make(self) -> nn.Module:
        return Block(norm=lambda width: nn.GroupNorm(2, width, affine=False))


class BareNorm(nn.Module):
    """Normalization that divides by what may be zero."""

    def __init__(self, width: int) -> None:
        super().__init__()

    def forward(self, x: Tensor) -> Tensor:
        return (x - x.mean((1, 2, 3), keepdim=True)) / x.std((1, 2, 3), keepdim=True)


class Bare(Plain):
    def make(self) -> nn.Module:
        return Block(norm=BareNorm)


class OwnConvolutions(nn.Module):
    """Hands parameters of its own to functions."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Parameter(torch.randn(WIDTH, WIDTH, 3, 3) * 0.1)
        self.second = nn.Parameter(torch.randn(WIDTH, WIDTH, 3, 3) * 0.1)

    def forward(self, x: Tensor) -> Tensor:
        return x + nn.functional.conv2d(nn.functional.conv2d(x, self.first, padding=1).relu(), self.second, padding=1)


class ByFunctions(Plain):
    def make(self) -> nn.Module:
        return OwnConvolutions()


class FrozenNorm(nn.Module):
    """Normalization all of whose numbers are buffers, as detectors have them."""

    def __init__(self, width: int) -> None:
        super().__init__()
        for name, value in (("weight", 1.0), ("bias", 0.3), ("running_mean", 0.1), ("running_var", 2.0)):
            self.register_buffer(name, torch.full((width, 1, 1), value))

    def forward(self, x: Tensor) -> Tensor:
        return (x - self.running_mean) * self.running_var.rsqrt() * self.weight + self.bias


class Frozen(Plain):
    def make(self) -> nn.Module:
        return Block(norm=FrozenNorm)


# Called otherwise.


class KeywordBlock(Block):
    def forward(self, hidden: Tensor) -> Tensor:
        return super().forward(hidden)


class KeywordOnly(Plain):
    def make(self) -> nn.Module:
        return KeywordBlock()

    def body(self, x: Tensor) -> Tensor:
        for block in self.blocks:
            x = block(hidden=x)
        return x


class ConditionedBlock(Block):
    def forward(self, condition: Tensor, x: Tensor, *, scale: float = 1.0) -> Tensor:
        return (x + scale * condition * self.branch(x)).relu()


class SecondArgument(Plain):
    def make(self) -> nn.Module:
        return ConditionedBlock()

    def body(self, x: Tensor) -> Tensor:
        for block in self.blocks:
            x = block(torch.full((1,), 0.5), x, scale=0.7)
        return x


class TupleBlock(Block):
    def forward(self, x: Tensor) -> tuple[Tensor, None]:
        return super().forward(x), None


class TupleOut(Plain):
    def make(self) -> nn.Module:
        return TupleBlock()

    def body(self, x: Tensor) -> Tensor:
        for block in self.blocks:
            x = block(x)[0]
        return x


class PairBlock(Block):
    """Two streams in, two out, as a tuple that goes from block to block."""

    def forward(self, pair: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
        left, right = pair
        return left + self.branch(right), right + self.branch[0](left)


class Pairs(Plain):
    def make(self) -> nn.Module:
        return PairBlock()

    def body(self, x: Tensor) -> Tensor:
        left, right = self.blocks((x, 0.5 * x))
        return left - right


class DictBlock(Block):
    def forward(self, state: dict[str, Any]) -> dict[str, Any]:
        return {"x": super().forward(state["x"]), "size": state["size"]}


class Dicts(Plain):
    def make(self) -> nn.Module:
        return DictBlock()

    def body(self, x: Tensor) -> Tensor:
        return self.blocks({"x": x, "size": 16})["x"]


class InplaceBlock(Block):
    """Pre-activation whose first ReLU works in place, so that the shortcut carries what it left."""

    def forward(self, x: Tensor) -> Tensor:
        x = nn.functional.relu(x, inplace=True)
        return x + self.branch(x)


class Inplace(Plain):
    def make(self) -> nn.Module:
        return InplaceBlock()


# Sums made by the parent.


class SumInParent(Plain):
    def make(self) -> nn.Module:
        return branch(WIDTH)

    def body(self, x: Tensor) -> Tensor:
        for block in self.blocks:
            x = x + block(x)
        return x


class ScaledSumInParent(SumInParent):
    def __init__(self, num_classes: int = 3, channels: int = 3) -> None:
        super().__init__(num_classes, channels)
        self.scales = nn.Parameter(torch.tensor([0.2, 0.3, 0.4, 0.5]))
        self.last = nn.Conv2d(WIDTH, WIDTH, 1)

    def shorten(self, place: int) -> None:
        super().shorten(place)
        # Of a branch that the parent scales, the scale is left.
        self.scales.data[place:-1] = self.scales.data[place + 1 :].clone()

    def body(self, x: Tensor) -> Tensor:
        for scale, block in zip(self.scales, self.blocks, strict=False):
            x = torch.relu(x + scale * block(x))
        return self.last(x)


class InplaceSumInParent(SumInParent):
    def body(self, x: Tensor) -> Tensor:
        for block in self.blocks:
            x += block(x)
        return x


class StochasticDepthInParent(SumInParent):
    def wire(self) -> None:
        self.depth = nn.Dropout(0.1)

    def body(self, x: Tensor) -> Tensor:
        for block in self.blocks:
            x = (self.depth(block(x)) + x).relu()
        return x


class Add(nn.Module):
    def forward(self, first: Tensor, second: Tensor) -> Tensor:
        return first + second


class SumByModule(SumInParent):
    def wire(self) -> None:
        self.add = Add()

    def body(self, x: Tensor) -> Tensor:
        for block in self.blocks:
            x = self.add(x, block(x))
        return x


class SmoothBlock(Block):
    def forward(self, x: Tensor) -> Tensor:
        return nn.functional.gelu(x + self.branch(x))


class SmoothLast(Plain):
    """A last activation that is a function, and no ReLU."""

    def make(self) -> nn.Module:
        return SmoothBlock()

    def shorten(self, place: int) -> None:
        self.blocks[place] = nn.GELU()


class Gated(SumInParent):
    """No sums: what a block returns is multiplied with its input."""

    def body(self, x: Tensor) -> Tensor:
        for block in self.blocks:
            x = x * torch.sigmoid(block(x))
        return x


class Concatenated(SumInParent):
    def wire(self) -> None:
        self.mixers = nn.ModuleList(nn.Conv2d(2 * WIDTH, WIDTH, 1) for _ in range(4))

    def body(self, x: Tensor) -> Tensor:
        for block, mixer in zip(self.blocks, self.mixers, strict=True):
            x = mixer(torch.cat([x, block(x)], dim=1))
        return x


class Chain(SumInParent):
    def body(self, x: Tensor) -> Tensor:
        return self.blocks(x)


# Shared parts.


class TiedFirstConvolution(Plain):
    def wire(self) -> None:
        for block in self.blocks[1:]:
            block.branch[0].weight = self.blocks[0].branch[0].weight


class SharedConvolutionModule(Plain):
    def wire(self) -> None:
        for block in self.blocks[1:]:
            block.branch[0] = self.blocks[0].branch[0]


class SharedNorm(Plain):
    def wire(self) -> None:
        self.blocks[2].branch[1] = self.blocks[1].branch[1]


class RunTwice(Plain):
    """One block that is called two times, among others."""

    def body(self, x: Tensor) -> Tensor:
        return self.blocks[3](self.blocks[2](self.blocks[1](self.blocks[1](self.blocks[0](x)))))


class TiedAndSpectral(TiedFirstConvolution):
    make = SpectralNorm.make

    def wire(self) -> None:
        for block in self.blocks[1:]:
            block.branch[0] = self.blocks[0].branch[0]


# Wrapped.


class Checkpointed(Plain):
    def body(self, x: Tensor) -> Tensor:
        for block in self.blocks:
            x = checkpoint(block, x, use_reentrant=False)
        return x


class CompiledBlocks(Plain):
    def make(self) -> nn.Module:
        return torch.compile(Block(), backend="eager")


def compiled(num_classes: int = 3, channels: int = 3) -> nn.Module:
    return torch.compile(Plain(num_classes, channels), backend="eager")


def data_parallel(num_classes: int = 3, channels: int = 3) -> nn.Module:
    return nn.DataParallel(Plain(num_classes, channels))


def scripted(num_classes: int = 3, channels: int = 3) -> nn.Module:
    class Scripted(nn.Sequential):
        pass

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)
        return torch.jit.script(
            Scripted(
                nn.Conv2d(channels, WIDTH, 3, padding=1),
                Block(),
                Block(),
                nn.AdaptiveAvgPool2d(1),
                nn.Flatten(),
                nn.Linear(WIDTH, num_classes),
            )
        )


# Parents that read their blocks.


class ReadsKernel(Plain):
    def body(self, x: Tensor) -> Tensor:
        for block in self.blocks:
            x = block(x) if block.branch[0].kernel_size[0] == 3 else x
        return x


class ReadsDtype(Plain):
    def body(self, x: Tensor) -> Tensor:
        for block in self.blocks:
            x = block(x.to(block.branch[0].weight.dtype))
        return x


class ReadsLength(SumInParent):
    def body(self, x: Tensor) -> Tensor:
        for block in self.blocks:
            x = x + (block(x) if len(block) else 0)
        return x


class ReadsInTraining(Plain):
    def body(self, x: Tensor) -> Tensor:
        if self.training:
            x = x + 0 * sum(block.branch[0].weight.sum() for block in self.blocks)
        return super().body(x)


class ReadsOne(Plain):
    """Only one of the blocks is read."""

    def body(self, x: Tensor) -> Tensor:
        assert self.blocks[2].branch[0].stride == (1, 1)
        return super().body(x)


class Skips(Plain):
    """Counts real blocks only, so that what is left depends on how many there are."""

    def body(self, x: Tensor) -> Tensor:
        real = [block for block in self.blocks if isinstance(block, Block)]
        for block in self.blocks:
            x = block(x) / len(real)
        return x


# Weights of which something else computes than what is registered.


class CachingConv2d(nn.Conv2d):
    """Computes with what its weight was in the first forward pass."""

    kept: Tensor | None = None

    def forward(self, x: Tensor) -> Tensor:
        if self.kept is None:
            self.kept = self.weight.detach().clone()
        return nn.functional.conv2d(x, self.kept, self.bias, padding=self.padding)


class CachedWeight(Plain):
    def wire(self) -> None:
        self.blocks[1].branch[0] = CachingConv2d(WIDTH, WIDTH, 3, padding=1, bias=False)


class SecondCopy(Plain):
    """The stem that is registered first never runs."""

    def wire(self) -> None:
        self.running = nn.Conv2d(3, WIDTH, 3, padding=1)

    def forward(self, images: Tensor) -> Tensor:
        return self.head(self.body(self.running(images).relu()).mean((2, 3)))


class AuxiliaryInTraining(Plain):
    """A second head that runs in training only."""

    def wire(self) -> None:
        self.auxiliary = nn.Linear(WIDTH, 3)

    def forward(self, images: Tensor) -> Tensor:
        logits = super().forward(images)
        return logits + 0.3 * self.auxiliary(self.stem(images).mean((2, 3))) if self.training else logits


class ReentrantlyCheckpointed(Plain):
    def body(self, x: Tensor) -> Tensor:
        for block in self.blocks:
            x = checkpoint(block, x, use_reentrant=True)
        return x


class TiedToTable(Plain):
    """The head's weight is a parameter of the network, too, and named first after that."""

    def __init__(self, num_classes: int = 3, channels: int = 3) -> None:
        super().__init__(num_classes, channels)
        self.table = self.head.weight


class Odd(NamedTuple):
    """What is to come of a network: which of its blocks may go, in pruning and why others stay."""

    build: Callable[[], nn.Module]
    residue: str | None = "identity"
    refused: str = ""
    blocks: str = "blocks.{}"
    trains: bool = True
    stages: int = 1


ODD = {
    # As they have names, and other ways lead to them too.
    "list": Odd(InList),
    "nested dict": Odd(InNestedDict),
    "second name": Odd(UnderSecondName),
    "slices": Odd(InSlices),
    "hidden attribute": Odd(AsHiddenAttribute),
    "closure": Odd(ByClosure, None, "not registered"),
    "bound method": Odd(ByBoundMethod, "zero", blocks="blocks.{}.branch", stages=4),
    "partial": Odd(ByPartial, None, "not registered"),
    "unregistered beside": Odd(Unregistered, None, "not registered"),
    "all unregistered": Odd(AllUnregistered, None, "not registered"),
    "spectral norm": Odd(SpectralNorm),
    "spectral norm, old": Odd(SpectralNormOld),
    "weight norm": Odd(WeightNorm),
    "weight norm, old": Odd(WeightNormOld),
    "orthogonal": Odd(Orthogonal),
    "never zero": Odd(NeverZero),
    "standardized": Odd(Standardized),
    "non-affine": Odd(NonAffine),
    "non-affine instance norm": Odd(NonAffineInstanceNorm),
    "non-affine group norm": Odd(NonAffineGroupNorm),
    "frozen norm": Odd(Frozen),
    "norm without epsilon": Odd(Bare),
    "keyword": Odd(KeywordOnly, "identity of hidden"),
    "second argument": Odd(SecondArgument, "identity of 1"),
    "tuple": Odd(TupleOut, "('identity', None)"),
    "pairs": Odd(Pairs, "('identity of 0.0', 'identity of 0.1')"),
    "dicts": Odd(Dicts, "{'x': 'identity of 0.x', 'size': 'identity of 0.size'}"),
    "in place": Odd(Inplace, trains=False),
    "sum in parent": Odd(SumInParent, "zero"),
    "scaled sum in parent": Odd(ScaledSumInParent, "zero"),
    "sum in parent, in place": Odd(InplaceSumInParent, "zero", trains=False),
    "sum in parent, stochastic depth": Odd(StochasticDepthInParent, "zero"),
    "sum in parent, by a module": Odd(SumByModule, "zero"),
    "last activation": Odd(SmoothLast, "zero", blocks="blocks.{}.branch", stages=4),
    "tied": Odd(TiedFirstConvolution),
    "shared module": Odd(SharedConvolutionModule),
    "shared norm": Odd(SharedNorm),
    "checkpointed": Odd(Checkpointed),
    "compiled blocks": Odd(CompiledBlocks),
    "compiled": Odd(compiled, blocks="_orig_mod.blocks.{}"),
    "data parallel": Odd(data_parallel, blocks="module.blocks.{}"),
    "by functions": Odd(ByFunctions, None, "torch's convolutions"),
    "gated": Odd(Gated, None, "multiplies features"),
    "concatenated": Odd(Concatenated, None, "what concatenates"),
    "scripted": Odd(scripted, None, "TorchScript"),
    "reads kernels": Odd(ReadsKernel, None, "does not run any more: AttributeError"),
    "reads dtypes": Odd(ReadsDtype, None, "does not run any more: AttributeError"),
    "reads lengths": Odd(ReadsLength, None, "does not run any more: TypeError"),
    "reads in training": Odd(ReadsInTraining, None, r"does not run any more: .* \(in training mode\)"),
    "skips": Odd(Skips, None, "computes something else"),
}
