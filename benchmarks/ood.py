"""What detection costs on top of a forward pass, and against pytorch-ood called detector by detector.

Both ratios come from one run over the same made-up images, 5,000 in- and 5,000 out-of-distribution ones of 28×28
pixels, all detectors but ODIN, which runs the network itself. Exits with 1 when either is missed.

* One pass of ours over the 10,000 images, frozen copy and all scores included, over one plain forward pass: at most
  1.6. Medians of alternating rounds. Fitting (the pass over the training images, and what detectors learn
  from it) is printed beside it.
* The whole of theirs, fitting included, over the whole of ours: at least 6. Each of their detectors is fitted and
  called through the model, as their documentation shows; on a part of the images, as that takes minutes.

    python benchmarks/ood.py [--model resnet32] [--rounds 3] [--peer-share 0.1] [--threads 1]
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
import warnings
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from robustprune.inference import predict_logits
from robustprune.models import build_model
from robustprune.ood import DETECTORS, Extractor, fit_detectors, score_outputs
from robustprune.ood.detectors.vim import principal_dimensions

MOST_PASSES, LEAST_SPEEDUP = 1.6, 6.0
SIDE, CLASSES, BATCH = 28, 10, 256
NAMES = [name for name in DETECTORS.names() if name != "odin"]


class Shape:
    """What a network has to know of the images."""

    channels, image_size, num_classes = 1, (SIDE, SIDE), CLASSES
    mean, std = (0.5,), (0.3,)


class Sets:
    """Images by part, and labels as the network would have them."""

    def __init__(self, images: dict[str, Tensor], labels: dict[str, Tensor]) -> None:
        """Keep them."""
        self.images, self.labels = images, labels

    def share(self, share: float) -> Sets:
        """Return the first part of each."""
        return Sets(
            *({name: each[: round(share * len(each))] for name, each in of.items()} for of in vars(self).values())
        )


def make_sets(network: Any, sizes: dict[str, int]) -> Sets:
    """Return random images, after turning the network's last layer so that it uses all of its classes."""
    generator = torch.Generator().manual_seed(0)
    images = {
        part: torch.randint(0, 256, (size, 1, SIDE, SIDE), dtype=torch.uint8, generator=generator)
        for part, size in sizes.items()
    }
    with torch.no_grad():
        mean = network.forward_features(images["val"].float() / 255).mean(dim=0)
        network.fc.weight.normal_(generator=generator)
        network.fc.bias.copy_(-network.fc.weight @ mean)
    labels = {part: predict_logits(network, images[part]).argmax(dim=1) for part in ("train", "val")}
    return Sets(images, labels)


def ours(network: nn.Module, sets: Sets) -> tuple[float, float]:
    """Return the seconds of fitting, and of one pass with all scores."""
    start = time.perf_counter()
    extractor = Extractor(network, sets.images["in"][:8], batch_size=BATCH)
    prepared = time.perf_counter()
    fitted = fit_detectors(NAMES, *(extractor.run(sets.images[part], sets.labels[part]) for part in ("train", "val")))
    ready = time.perf_counter()
    for part in ("in", "out"):
        outputs = extractor.run(sets.images[part])
        for name, detector in fitted.items():
            scores = score_outputs(detector, outputs)
            assert not isinstance(scores, str), f"{name}: {scores}"
    return ready - prepared, time.perf_counter() - ready + prepared - start


def plain_pass(network: nn.Module, sets: Sets) -> float:
    start = time.perf_counter()
    for part in ("in", "out"):
        predict_logits(network, sets.images[part], batch_size=BATCH)
    return time.perf_counter() - start


def peers(network: Any) -> dict[str, Callable[[], Any]]:
    """Return pytorch-ood's detectors by our names, each made afresh."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import pytorch_ood.detector as theirs

    features, fc, width = network.forward_features, network.fc, network.fc.in_features

    def maps(images: Tensor) -> Tensor:
        found: Tensor = features(images)[:, :, None, None]
        return found

    def head(found: Tensor) -> Tensor:
        logits: Tensor = fc(found.flatten(1))
        return logits

    return {
        "ash": lambda: theirs.ASH(maps, head, percentile=0.9),
        "dice": lambda: theirs.DICE(features, fc.weight, fc.bias, p=0.9),
        "energy": lambda: theirs.EnergyBased(network),
        "entropy": lambda: theirs.Entropy(network),
        "fdbd": lambda: theirs.fDBD(features, fc),
        "gen": lambda: theirs.GEN(network),
        "gradnorm": lambda: theirs.GradNorm(network, param_filter=lambda name: name == "fc.weight"),
        "knn": lambda: theirs.KNN(features, k=50),
        "mahalanobis": lambda: theirs.Mahalanobis(features),
        "max_logit": lambda: theirs.MaxLogit(network),
        "msp": lambda: theirs.MaxSoftmax(network),
        "react": lambda: theirs.ReAct(features, fc),
        "rmd": lambda: theirs.RMD(features),
        "scale": lambda: theirs.SCALE(maps, head, percentile=0.85),
        "she": lambda: theirs.SHE(features, fc),
        "temperature": lambda: theirs.TemperatureScaling(network),
        "vim": lambda: theirs.ViM(features, principal_dimensions(width), fc.weight, fc.bias),
    }


def theirs_seconds(make: Callable[[], Any], name: str, sets: Sets) -> float:
    """Return the seconds of fitting one of their detectors and calling it on both sets."""
    from torch.utils.data import DataLoader, TensorDataset

    start = time.perf_counter()
    detector = make().to("cpu")
    part = "val" if name == "temperature" else "train"
    pairs = TensorDataset(sets.images[part].float() / 255, sets.labels[part])
    with torch.no_grad() if name != "temperature" else torch.enable_grad():
        if getattr(detector, "requires_fit", False):
            detector.fit(DataLoader(pairs, batch_size=BATCH))
    with torch.no_grad():
        for part in ("in", "out"):
            for batch in torch.split(sets.images[part], BATCH):
                detector(batch.float() / 255)
    return time.perf_counter() - start


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="resnet32")
    parser.add_argument("--images", type=int, default=5000, help="of each set")
    parser.add_argument("--train", type=int, default=10_000, help="images to fit on")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--peer-share", type=float, default=0.1)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    network = build_model(arguments.model, Shape())
    sizes = {"train": arguments.train, "val": 1000, "in": arguments.images, "out": arguments.images}
    sets = make_sets(network, sizes)
    plain, fitting, scoring = [], [], []
    for _ in range(arguments.rounds):
        plain.append(plain_pass(network, sets))
        fit, score = ours(network, sets)
        fitting.append(fit)
        scoring.append(score)
    passes = statistics.median(scoring) / statistics.median(plain)
    print(f"{arguments.model}, {2 * arguments.images} images, {len(NAMES)} detectors, {arguments.threads} threads")
    print(
        f"plain pass {statistics.median(plain):.2f} s; fitting on {arguments.train} {statistics.median(fitting):.2f} s"
    )
    print(f"pass and all scores {statistics.median(scoring):.2f} s, ratio {passes:.3f} (required ≤ {MOST_PASSES})")

    few = sets.share(arguments.peer_share)
    own = sum(ours(network, few))
    each = {name: theirs_seconds(make, name, few) for name, make in peers(network).items()}
    own = (own + sum(ours(network, few))) / 2
    speedup = sum(each.values()) / own
    print("pytorch-ood, s: " + ", ".join(f"{name} {seconds:.1f}" for name, seconds in each.items()))
    print(
        f"pytorch-ood {sum(each.values()):.1f} s, ours {own:.2f} s on {arguments.peer_share:.0%} of the images, "
        f"ratio {speedup:.1f} (required ≥ {LEAST_SPEEDUP:g})"
    )
    return int(passes > MOST_PASSES or speedup < LEAST_SPEEDUP)


if __name__ == "__main__":
    sys.exit(main())
