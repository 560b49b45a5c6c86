"""One forward pass over a set of images, and its results kept on disk for the next time."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor, nn

from robustprune._version import __version__
from robustprune.errors import DamagedFileError, EvaluationError
from robustprune.inference import NO_FEATURES, catching, find_head, freeze
from robustprune.models import FunctionNetwork, as_network, evaluation_mode, model_device, run_model, to_unit_range
from robustprune.ood.outputs import Outputs
from robustprune.runtime.arrays import Array, to_tensor
from robustprune.runtime.environment import hash_weights
from robustprune.runtime.files import hash_arrays, hash_json, read_sealed, user_path, write_sealed

_KIND = "robustprune-ood-outputs"
PROBES = 8
"""How many images show where the last layer is."""

TRUST = 4
"""How many images of a cached set are computed again, to see that the network still says the same."""
_TOLERANCE = 1e-4


class Extractor:
    """Runs the frozen copy of a network once over each set that it is given.

    With a cache folder, a set's logits and features are written there, and read instead of computed when the
    same network meets the same images again. The key covers the weights, the network's structure, the pixels
    after every conversion, the version of this package and of torch, and the device. What no hash can see, such as
    a change in the network's code, shows in the first images, which are computed all the same and compared.
    """

    def __init__(
        self, model: nn.Module, example: Array, *, batch_size: int = 256, cache: str | Path | None = None
    ) -> None:
        """Freeze a network, which is left as it was, and find its last layer.

        It maps images in [0, 1] to logits (N, K); ``example`` has some of the images, uint8 or float.

        Raises:
            ModelError: The network does not run on such images, or cannot be copied, unless it is a plain function.
        """
        network, example = as_network(model), to_tensor(example, "the example")
        place = model_device(network)
        self.network = network if isinstance(network, FunctionNetwork) else freeze(network, example)
        self._found = find_head(self.network, to_unit_range(example[:PROBES].to(place)))
        self._head = self._found.head if self._found else None
        self._place, self._batch_size = place, batch_size
        self._cache = None if cache is None else user_path(cache)
        if cache is not None:
            # All that decides what a network computes, as far as it can be seen from outside.
            structure = f"{type(network).__module__}.{type(network).__qualname__}\n{network}"
            seen = [hash_weights(network), structure, __version__, torch.__version__, str(place)]
            self._identity = hash_json(seen)

    def run(
        self,
        images: Array,
        labels: Array | None = None,
        *,
        keep: bool = True,
        progress: Callable[[int, int], None] | None = None,
    ) -> Outputs:
        """Return the outputs for images (N, …), uint8 or float in [0, 1], and their labels (N,), if they have any.

        ``keep`` says whether the outputs are worth a place in the cache, ``progress`` is told of images done.

        Raises:
            EvaluationError: No images, or the cache folder cannot be written.
            ModelError: The network does not run on these images.
        """
        images, labels = to_tensor(images, "images"), None if labels is None else to_tensor(labels, "labels")
        if images.ndim < 2 or len(images) == 0:
            raise EvaluationError("there are no images to run the network on")
        path = outputs = None
        if self._cache is not None and keep:
            key = hash_json([self._identity, hash_arrays({"images": images.cpu().numpy()})])
            path = self._cache / f"{key[:32]}.pt"
            outputs = self._read(path, images)
        if outputs is None:
            if progress is not None:
                progress(0, len(images))
            outputs = self._compute(images, progress)
            if path is not None:
                content = {"format": _KIND, "logits": outputs.logits, "features": outputs.features}
                try:
                    write_sealed(path, content)
                except OSError as error:
                    raise EvaluationError(f"features cannot be kept in {path.parent}: {error.strerror}") from error
        return replace(outputs, head=self._head, labels=labels, images=images, network=self.network)

    def attached(self, images: Tensor) -> Outputs:
        """Return the outputs for one batch of float images (n, …), on the CPU, differentiable by the images."""
        with catching(self._found) as caught:
            logits = run_model(self.network, images.to(self._place))
        features = caught[0].float().cpu() if caught else None
        return Outputs(logits.cpu(), features, self._head, images=images, network=self.network)

    def describe_head(self) -> str:
        """Return in words where the features come from."""
        if self._found is None:
            return f"none: {NO_FEATURES}"
        name = next(name for name, module in self.network.named_modules() if module is self._found.module)
        return str(name) + ("" if self._head else ", whose outputs are not the logits")

    def _compute(self, images: Tensor, progress: Callable[[int, int], None] | None) -> Outputs:
        logits, features = [], []
        with evaluation_mode(self.network), torch.no_grad():
            for start in range(0, len(images), self._batch_size):
                batch = images[start : start + self._batch_size]
                outputs = self.attached(to_unit_range(batch.to(self._place)))
                logits.append(outputs.logits)
                features.append(outputs.features)
                if progress is not None:
                    progress(start + len(batch), len(images))
        kept = [each for each in features if each is not None]
        return Outputs(torch.cat(logits), torch.cat(kept) if kept else None)

    def _read(self, path: Path, images: Tensor) -> Outputs | None:
        """Return what a file holds; None if it is missing, damaged, or not what the network says of these images."""
        try:
            content = read_sealed(path, _KIND)
        except DamagedFileError:
            return None
        kept, now = Outputs(content["logits"], content["features"]), self._compute(images[:TRUST], None)
        return kept if _agree(kept.logits, now.logits) and _agree(kept.features, now.features) else None


def _agree(kept: Tensor | None, now: Tensor | None) -> bool:
    """Return whether the first rows of what was kept are what is computed now."""
    if kept is None or now is None:
        return kept is now
    if kept.shape[1:] != now.shape[1:]:
        return False
    # Of what is finite: relative to an infinite logit all else would be equal.
    tolerance = _TOLERANCE * float(now.nan_to_num(0, 0, 0).abs().max())
    return torch.allclose(kept[: len(now)], now, rtol=0, atol=tolerance, equal_nan=True)
