"""The first layers of a network, computed anew only where an image has changed.

A k×k convolution of stride 1 sees k // 2 pixels to each side: a patch of 3×3 pixels changes 5×5 pixels behind one 3×3
convolution and 17×17 behind seven, of maps that may have many more. What such layers say of an image is kept; of an
image that differs from it within a patch, they are run on the patch and its surroundings, and the layers behind them
on all.
"""

from __future__ import annotations

import operator
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache, partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, fx, nn

from robustprune.inference.packed import Packed
from robustprune.inference.tracing import trace

Patch = tuple[slice, slice]
"""Rows and columns."""

_POINTWISE = (nn.Identity, nn.ReLU, nn.ReLU6, nn.SiLU, nn.Hardswish, nn.GELU, nn.LeakyReLU, nn.BatchNorm2d)
_ARITHMETIC: dict[Callable[..., Any], Callable[..., Tensor]] = {
    operator.add: torch.add,
    operator.iadd: torch.add,
    operator.sub: torch.sub,
    operator.mul: torch.mul,
    operator.truediv: torch.div,
}


@dataclass(frozen=True)
class _Layer:
    """One of the first layers.

    Attributes:
        inputs: The nodes it reads.
        run: Takes a window of each input (n, C, h, w), larger than that of the output by ``reach`` on each side.
        run_whole: Takes the whole of each.
        reach: How far a pixel of it sees in its inputs.
        radius: How far in the image.
    """

    inputs: tuple[fx.Node, ...]
    run: Callable[..., Tensor]
    run_whole: Callable[..., Tensor]
    reach: int
    radius: int


class Windowed:
    """A network that looks at images which differ within a patch from those it has seen."""

    def __init__(self, network: nn.Module) -> None:
        """Take a network in evaluation mode apart.

        Raises:
            Exception: Whatever tracing raises, as for code that depends on values.
            ValueError: No layer of it sees only what is near, hooks listen to it, or it draws random numbers.
        """
        traced = trace(network)
        self._image, self._layers = _first_layers(traced)
        inside = [self._image, *self._layers]
        handed_on = [node for node in inside if any(user not in inside for user in node.users)]
        if self._image in handed_on or not any(layer.reach for layer in self._layers.values()):
            raise ValueError("no layer sees only what is near")
        self._rest = _packed(_behind(traced, handed_on))
        self._handed_on = handed_on
        # What is read beyond its own window: by a convolution, in a sum with what has a wider one, or as a whole.
        wider = {each for layer in self._layers.values() for each in layer.inputs if self._radius(each) < layer.radius}
        self._kept = wider | set(handed_on)
        self._border = max(layer.reach for layer in self._layers.values())
        self._maps: dict[fx.Node, Tensor] = {}  # (slots, H + 2·border, W + 2·border, C), zero in the border
        self._slots = 0

    def share(self, side: int, height: int, width: int) -> float:
        """Return which share of the first layers' pixels depends on a patch of this side in the middle."""
        sides = [side + 2 * layer.radius for layer in self._layers.values() if layer.reach]
        return sum(min(each, height) * min(each, width) for each in sides) / (len(sides) * height * width)

    def make_room(self, slots: int) -> None:
        """Forget all images, and make ready for so many."""
        self._maps, self._slots = {}, slots

    @property
    def bytes_per_image(self) -> int:
        """What is kept of an image that was seen."""
        return sum(maps.nbytes for maps in self._maps.values()) // self._slots

    @torch.no_grad()
    def see(self, images: Tensor, slots: Tensor) -> None:
        """Keep what the first layers say of images (n, C, H, W), under ``slots`` (n,)."""
        found = {self._image: images}
        for node, layer in self._layers.items():
            found[node] = layer.run_whole(*(found[each] for each in layer.inputs))
        edge = self._border
        for node in self._kept:
            maps = found[node].permute(0, 2, 3, 1)
            if node not in self._maps:
                _, height, width, channels = maps.shape
                self._maps[node] = maps.new_zeros(self._slots, height + 2 * edge, width + 2 * edge, channels)
            self._maps[node][slots, edge:-edge, edge:-edge] = maps

    @torch.no_grad()
    def look(self, images: Tensor, slots: Tensor, patch: Patch) -> Tensor:
        """Return logits (n, K) of images (n, C, H, W) which differ within a patch from those under ``slots`` (n,)."""
        whole = _whole(images)

        @cache
        def place(radius: int) -> Patch:
            """Return where a map changes that sees so far."""
            return _grown(patch, radius, whole)

        def read(node: fx.Node, window: Patch) -> Tensor:
            return self._read(found[node], node, slots, place(self._radius(node)), window)

        found = {self._image: images[:, :, patch[0], patch[1]]}
        for node, layer in self._layers.items():
            window = _grown(place(layer.radius), layer.reach)
            found[node] = layer.run(*(read(each, window) for each in layer.inputs))
        return self._rest(*(read(node, whole) for node in self._handed_on)).float()  # type: ignore[no-any-return]

    def _radius(self, node: fx.Node) -> int:
        return self._layers[node].radius if node in self._layers else 0

    def _read(self, new: Tensor, node: fx.Node, slots: Tensor, place: Patch, window: Patch) -> Tensor:
        """Return a window of a map (n, C, h, w), which may begin within the border: new in its place, else as kept."""
        if place == window:
            return new
        edge = self._border
        rows, columns = (slice(each.start + edge, each.stop + edge) for each in window)
        maps = self._maps[node][:, rows, columns].index_select(0, slots).permute(0, 3, 1, 2)
        down, across = (
            slice(old.start - wanted.start, old.stop - wanted.start) for old, wanted in zip(place, window, strict=True)
        )
        maps[:, :, down, across] = new
        return maps


def _first_layers(traced: fx.GraphModule) -> tuple[fx.Node, dict[fx.Node, _Layer]]:
    """Return the image, and the layers that see only what is near, in order."""
    (image,) = (node for node in traced.graph.nodes if node.op == "placeholder")
    layers: dict[fx.Node, _Layer] = {}
    for node in traced.graph.nodes:
        found = _layer(node, traced, {image, *layers})
        if found is not None:
            inputs, run, run_whole, reach = found
            before = max(layers[each].radius if each in layers else 0 for each in inputs)
            layers[node] = _Layer(inputs, run, run_whole, reach, before + reach)
    return image, layers


_Found = tuple[tuple[fx.Node, ...], Callable[..., Tensor], Callable[..., Tensor], int]


def _layer(node: fx.Node, traced: fx.GraphModule, known: set[fx.Node]) -> _Found | None:
    """Return inputs, function and reach of a layer that sees only what is near in what is known; None of others."""
    if node.kwargs or not node.args:
        return None
    read = [each for each in node.args if isinstance(each, fx.Node) and each in known]
    if node.op == "call_module" and len(read) == 1:
        return _module_layer(read[0], traced.get_submodule(str(node.target)))
    operation = _ARITHMETIC.get(node.target) if node.op == "call_function" and callable(node.target) else None
    if operation is None or len(node.args) != 2 or not read or read[0] is not node.args[0]:
        return None
    if len(read) == 2:
        return (read[0], read[1]), operation, operation, 0
    constant = node.args[1]
    if isinstance(constant, fx.Node) and constant.op == "get_attr":
        value = _attribute(traced, str(constant.target))
        if value.ndim == 0 or (value.ndim >= 3 and value.shape[-2:] == (1, 1)):
            return (read[0],), (run := lambda maps: operation(maps, value)), run, 0
    return None


def _module_layer(read: fx.Node, module: nn.Module) -> _Found | None:
    if module.training:
        return None
    if type(module) in _POINTWISE:
        return (read,), (run := partial(_apart, module)), run, 0
    if type(module) is nn.Conv2d and (reach := _reach(module)) is not None:
        return (read,), partial(_unpadded, module), module, reach
    return None


def _attribute(traced: fx.GraphModule, name: str) -> Tensor:
    place, _, last = name.rpartition(".")
    return getattr(traced.get_submodule(place), last)  # type: ignore[no-any-return]


def _reach(convolution: nn.Conv2d) -> int | None:
    """Return how far it sees, or None if its map is not as large as what it reads, or its border is not zero."""
    size = convolution.kernel_size[0]
    ordinary = convolution.stride == convolution.dilation == (1, 1) and convolution.padding_mode == "zeros"
    square = convolution.kernel_size == (size, size) and size % 2 == 1
    padded = convolution.padding in ("same", (size // 2, size // 2))
    return size // 2 if ordinary and square and padded else None


def _unpadded(convolution: nn.Conv2d, maps: Tensor) -> Tensor:
    return F.conv2d(maps, convolution.weight, convolution.bias, groups=convolution.groups)


def _apart(module: nn.Module, maps: Tensor) -> Tensor:
    """Run a module that may work in place on a copy: others may read its input, too."""
    if isinstance(module, nn.ReLU):
        return maps.relu()
    return module(maps.clone() if getattr(module, "inplace", False) else maps)  # type: ignore[no-any-return]


def _behind(traced: fx.GraphModule, given: list[fx.Node]) -> fx.GraphModule:
    """Return the layers that follow from those given to the logits."""
    graph = fx.Graph()
    copies = {node: graph.placeholder(f"given_{number}") for number, node in enumerate(given)}
    needed: set[fx.Node] = set()
    (output,) = (node for node in traced.graph.nodes if node.op == "output")
    waiting = [output]
    while waiting:
        node = waiting.pop()
        if node not in needed and node not in copies:
            needed.add(node)
            waiting += node.all_input_nodes
    for node in traced.graph.nodes:
        if node in needed:
            copies[node] = graph.node_copy(node, copies.__getitem__)
    return fx.GraphModule(traced, graph)


def _packed(network: fx.GraphModule) -> nn.Module:
    try:
        return Packed(network)
    except ValueError:
        return network


def _whole(images: Tensor) -> Patch:
    return slice(0, images.shape[2]), slice(0, images.shape[3])


def _grown(patch: Patch, by: int, within: Patch | None = None) -> Patch:
    """Return a patch with so many more pixels on each side, as far as there are any."""
    rows, columns = (slice(each.start - by, each.stop + by) for each in patch)
    if within is None:
        return rows, columns
    rows, columns = (
        slice(max(each.start, whole.start), min(each.stop, whole.stop))
        for each, whole in zip((rows, columns), within, strict=True)
    )
    return rows, columns
