"""The first layers of a network, computed anew only where an image has changed.

A k×k convolution of stride 1 sees k // 2 pixels to each side: a patch of 3×3 pixels changes 5×5 pixels behind one 3×3
convolution and 17×17 behind seven, of maps that may have many more. What such layers say of an image is kept; of an
image that differs from it within a patch, they are run on the patch and its surroundings, as long as that is less
work than on the whole, and the layers behind them on all.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import cache

import torch
from torch import Tensor, fx, nn

from robustprune.inference import bounds
from robustprune.inference.near import Layer, Patch, near_layers
from robustprune.inference.packed import Packed
from robustprune.inference.tracing import trace

COPYING = 90
"""As many multiplications in a convolution take the time of copying a value into a window, and perhaps over it."""

SMALLNESS = 1.5
"""How much longer a pixel takes in windows, which are small."""

NARROWEST = 5
"""Windows are at least so many pixels wide: oneDNN adds up in another order where they are narrower.

Where all else is equal, what is kept of a look is so bit for bit what would be seen (`Windowed.has_seen`).
"""

TOGETHER = 4
"""Of more than 16 images such a multiple is run, some twice: oneDNN prepares for every number of them anew."""


@dataclass(frozen=True)
class _Plan:
    """How to go about a patch.

    Attributes:
        n_layers: How many of the layers are run on windows; not those that are done faster on all.
        places: Which part of each map is computed.
        windows: Which part of each of its inputs a layer reads.
    """

    n_layers: int
    places: dict[fx.Node, Patch]
    windows: dict[fx.Node, tuple[Patch, ...]]


@dataclass(frozen=True)
class _Look:
    """What was found on windows: maps (n, C, h, w) of images to be compared with those under ``slots`` (n,)."""

    slots: Tensor
    plan: _Plan
    found: dict[fx.Node, Tensor]
    read: dict[fx.Node, tuple[Patch, Tensor]] = field(default_factory=dict)  # the last window of each map


class Windowed:
    """A network that looks at images which differ within a patch from those it has seen.

    All are of one size, and their values such that those before the first convolution are small (`bounds.is_input`).
    """

    def __init__(self, network: nn.Module, image: Tensor) -> None:
        """Take a network in evaluation mode apart.

        Args:
            network: The network.
            image: One that it takes, (1, C, H, W).

        Raises:
            Exception: Whatever tracing raises, as for code that depends on values.
            ValueError: No layer of it sees only what is near, hooks listen to it, or it draws random numbers.
        """
        self._traced = trace(network)
        self._near = near_layers(self._traced)
        self._shapes = {node: maps.shape[1:] for node, maps in self._run_whole(image, self._near.layers)}
        self._layers = self._near.layers
        self._handed_on = [self._read_behind(number) for number in range(len(self._layers) + 1)]
        # Of no patch are more layers run on windows than of a pixel.
        self._layers = self._layers[: self._make_plan(0, 1, 0, 1).n_layers]
        if not self._layers:
            raise ValueError("no layer sees only what is near")
        self._plan = cache(self._make_plan)
        self._rests: dict[int, nn.Module] = {}
        self._kept = {node for layer in self._layers for node in (layer.node, *layer.inputs)}
        self._border = max(max(layer.sight.padding) for layer in self._layers)
        self._maps: dict[fx.Node, Tensor] = {}  # (slots, H + 2·border, W + 2·border, C), zero in the border
        self._slots = 0
        self._looks: list[_Look] = []

    def is_worth(self, patch: Patch) -> bool:
        """Return whether looking at such a patch takes less time than running the network."""
        return self._plan(*_corners(patch)).n_layers > 0

    def make_room(self, slots: int) -> None:
        """Forget all images, and make ready for so many."""
        self._maps, self._slots, self._looks = {}, slots, []

    @property
    def bytes_per_image(self) -> int:
        """What is kept of an image that was seen."""
        return sum(maps.nbytes for maps in self._maps.values()) // self._slots

    def see(self, images: Tensor, slots: Tensor) -> None:
        """Keep what the first layers say of images (n, C, H, W), under ``slots`` (n,)."""
        edge = 2 * self._border
        for node, found in self._run_whole(images, self._layers):
            if node in self._kept:
                _, channels, height, width = found.shape
                if node not in self._maps:
                    self._maps[node] = found.new_zeros(self._slots, height + edge, width + edge, channels)
                self._write(node, slots, _whole(found.shape), found)

    def has_seen(self, images: Tensor, slots: Tensor) -> bool:
        """Return whether what is kept under ``slots`` is bit for bit what the first layers say of images."""
        for node, found in self._run_whole(images, self._layers):
            if node in self._kept:
                rows, columns = self._in_border(_whole(found.shape))
                if not torch.equal(self._maps[node][:, rows, columns][slots], found.permute(0, 2, 3, 1)):
                    return False
        return True

    @torch.no_grad()
    def look(self, images: Tensor, slots: Tensor, patch: Patch) -> Tensor:
        """Return logits (n, K) of images (n, C, H, W) which differ within a patch from those under ``slots`` (n,)."""
        plan, n = self._plan(*_corners(patch)), len(images)
        more = -n % TOGETHER if n > 16 else 0
        slots, windows = torch.cat([slots, slots[:more]]), images[:, :, patch[0], patch[1]]
        look = _Look(slots, plan, {self._near.image: torch.cat([windows, windows[:more]])})
        self._check(self._near.image, windows)
        self._run(look, self._layers[: plan.n_layers])
        self._looks.append(look)
        handed_on = self._handed_on[plan.n_layers]
        whole = [self._read(look, node, _whole(self._shapes[node])) for node in handed_on]
        look.read.clear()
        return self._rest(plan.n_layers)(*whole)[:n].float()  # type: ignore[no-any-return]

    @torch.no_grad()
    def keep(self, slots: Tensor) -> None:
        """Of the images looked at since the last time, keep those of ``slots`` (n,) in place of what was there."""
        for look in self._looks:
            which = torch.isin(look.slots, slots).nonzero().flatten()
            if len(which):
                kept = _Look(look.slots[which], look.plan, {node: maps[which] for node, maps in look.found.items()})
                self._run(kept, self._layers[look.plan.n_layers :])
                for node, maps in kept.found.items():
                    self._write(node, kept.slots, look.plan.places[node], maps)
        self._looks = []

    @torch.no_grad()
    def _run_whole(self, images: Tensor, layers: list[Layer]) -> Iterator[tuple[fx.Node, Tensor]]:
        found = {self._near.image: images}
        for layer in layers:
            found[layer.node] = layer.run_whole(*(found[each] for each in layer.inputs))
        for node, maps in found.items():
            self._check(node, maps)
            yield node, maps

    def _run(self, look: _Look, layers: list[Layer]) -> None:
        """Run layers on windows, after those before them."""
        for layer in layers:
            read = zip(layer.inputs, look.plan.windows[layer.node], strict=True)
            look.found[layer.node] = layer.run(*(self._read(look, node, window) for node, window in read))
            self._check(layer.node, look.found[layer.node])

    def _check(self, node: fx.Node, maps: Tensor) -> None:
        if node in self._near.assumed and not bounds.is_input(maps):
            raise ValueError("values before the first convolution are too large, or not finite")

    def _rest(self, n_layers: int) -> nn.Module:
        """Return the network behind so many layers."""
        if n_layers not in self._rests:
            handed_on = self._handed_on[n_layers]
            rest = _behind(self._traced, handed_on)
            try:
                self._rests[n_layers] = Packed(rest, [self._near.intervals.get(node) for node in handed_on])
            except ValueError:
                self._rests[n_layers] = rest
        return self._rests[n_layers]

    def _read(self, look: _Look, node: fx.Node, window: Patch) -> Tensor:
        """Return a window of a map (n, C, h, w), which may begin within the border: new in its place, else as kept."""
        new, place = look.found[node], look.plan.places[node]
        if place == window:
            return new
        # What the first convolution of a block reads holds what is added behind its last.
        before = look.read.get(node)
        if before is not None and _hull(before[0], window) == before[0]:
            (down, _), (across, _) = (_overlap(there, wanted) for there, wanted in zip(before[0], window, strict=True))
            return before[1][:, :, down, across]
        rows, columns = self._in_border(window)
        maps = self._maps[node][:, rows, columns].index_select(0, look.slots).permute(0, 3, 1, 2)
        (down, of_down), (across, of_across) = (
            _overlap(wanted, there) for wanted, there in zip(window, place, strict=True)
        )
        maps[:, :, down, across] = new[:, :, of_down, of_across]
        look.read[node] = window, maps
        return maps

    def _write(self, node: fx.Node, slots: Tensor, place: Patch, maps: Tensor) -> None:
        rows, columns = self._in_border(place)
        self._maps[node][slots, rows, columns] = maps.permute(0, 2, 3, 1)

    def _in_border(self, patch: Patch) -> Patch:
        rows, columns = (slice(each.start + self._border, each.stop + self._border) for each in patch)
        return rows, columns

    def _read_behind(self, n_layers: int) -> tuple[fx.Node, ...]:
        """Return what is read of so many layers, and of the image, by others."""
        later = {node for layer in self._layers[n_layers:] for node in layer.inputs}
        here = [self._near.image, *(layer.node for layer in self._layers[:n_layers])]
        return tuple(node for node in here if node in later or not self._near.inside.issuperset(node.users))

    def _make_plan(self, top: int, bottom: int, left: int, right: int) -> _Plan:
        places, windows = self._spread((slice(top, bottom), slice(left, right)))
        return _Plan(self._how_many(places, windows), places, windows)

    def _spread(self, patch: Patch) -> tuple[dict[fx.Node, Patch], dict[fx.Node, tuple[Patch, ...]]]:
        """Return which part of each map to compute, and which of its inputs each layer then reads."""
        changed = {self._near.image: patch}
        places, windows = dict(changed), {}
        for layer in self._layers:
            node, first, *others = layer.node, *layer.inputs
            if any(self._shapes[each][1:] != self._shapes[node][1:] for each in layer.pixel_by_pixel):
                break  # one value is combined with many
            changed[node] = _hull(layer.sight.changed(changed[first]), *(changed[each] for each in others))
            places[node] = place = _inside(changed[node], self._shapes[node])
            windows[node] = (layer.sight.seen(place), *(place for _ in others))
        return places, windows

    def _how_many(self, places: dict[fx.Node, Patch], windows: dict[fx.Node, tuple[Patch, ...]]) -> int:
        """Return how many of the layers to run on windows, by the time that it is to take."""
        whole = [layer.multiplications * _area(_whole(self._shapes[layer.node])) for layer in self._layers]
        least, n_layers, spent = float(sum(whole)), 0, 0.0
        for number, layer in enumerate(self._layers[: len(windows)], start=1):
            spent += SMALLNESS * _area(places[layer.node]) * layer.multiplications
            read = zip(layer.inputs, windows[layer.node], strict=True)
            spent += COPYING * sum(_area(window) * self._shapes[node][0] for node, window in read)
            handed_on = self._handed_on[number]
            copied = sum(self._shapes[node].numel() for node in handed_on)
            total = spent + COPYING * copied + sum(whole[number:])
            if total < least and self._near.image not in handed_on:
                least, n_layers = total, number
        return n_layers


def _behind(traced: fx.GraphModule, given: Sequence[fx.Node]) -> fx.GraphModule:
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


def _corners(patch: Patch) -> tuple[int, int, int, int]:
    return patch[0].start, patch[0].stop, patch[1].start, patch[1].stop


def _area(patch: Patch) -> int:
    top, bottom, left, right = _corners(patch)
    return (bottom - top) * (right - left)


def _whole(shape: torch.Size) -> Patch:
    return slice(0, shape[-2]), slice(0, shape[-1])


def _hull(*patches: Patch) -> Patch:
    """Return the smallest patch that covers others."""
    rows, columns = (
        slice(min(each.start for each in sides), max(each.stop for each in sides))
        for sides in zip(*patches, strict=True)
    )
    return rows, columns


def _inside(patch: Patch, shape: torch.Size) -> Patch:
    """Return a patch moved onto a map, with more pixels where it has too few, as far as there are any.

    Moved, not cut off: oneDNN prepares for every size anew.
    """
    sides = []
    for each, least, size in zip(patch, (1, NARROWEST), shape[-2:], strict=True):
        length = min(max(each.stop - each.start, least), size)
        start = min(max(each.start, 0), size - length)
        sides.append(slice(start, start + length))
    return sides[0], sides[1]


def _overlap(wanted: slice, there: slice) -> tuple[slice, slice]:
    """Return where, within each of two ranges, lies what both have."""
    start, stop = max(wanted.start, there.start), min(wanted.stop, there.stop)
    stop = max(start, stop)
    return slice(start - wanted.start, stop - wanted.start), slice(start - there.start, stop - there.start)
