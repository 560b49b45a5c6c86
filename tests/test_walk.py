"""Every public function takes the network and the images in a user's hand, and leaves the network as it was.

Each is called with four networks and four forms of the same images. What it makes of a form is what it makes of the
image set; what that is follows from the module itself, by plain torch.
"""

from __future__ import annotations

import copy
import inspect
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
import walked_networks
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset
from walked_networks import NETWORKS, make

import robustprune as rp
from robustprune.lottery import algorithm_2

NEITHER = {
    "load_data": "makes an image set, by its name",
    "load_record": "reads a record from its file",
    "load_table": "reads a table from its file",
    "rank_criterion": "builds the networks of a table",
    "rank_searches": "builds the networks of a table",
    "compare_tickets": "compares the networks of a table",
    "compare": "compares records",
    "plan_seeds": "plans by spreads",
    "show": "draws records",
    "write_report": "writes about records",
    "corrupt": "takes uint8 images alone",
    "progress_bar": "draws how far something is",
    "quiet_threads": "sets how threads wait",
}
"""Functions that take neither networks nor images, and what they do instead."""
ALIKE = {"ablate": "run_lottery"}
"""Functions that hand all they take to the same one as another does, which is walked."""


class Split(NamedTuple):
    images: Tensor  # (N, 3, 32, 32) uint8
    labels: Tensor


def make_split(count: int, seed: int) -> Split:
    generator = torch.Generator().manual_seed(seed)
    labels = torch.arange(count) % 3
    noise = torch.randint(0, 120, (count, 3, 32, 32), generator=generator)
    return Split((noise + 60 * labels.view(-1, 1, 1, 1)).to(torch.uint8), labels)


TRAIN, TEST = make_split(24, 0), make_split(18, 1)
DATA = rp.as_data(train=TRAIN, test=TEST)


def as_dataset(split: Split) -> TensorDataset:
    return TensorDataset(split.images.float() / 255, split.labels)


FORMS: dict[str, Callable[[Split], Any]] = {
    "ImageData": lambda split: DATA,
    "DataLoader": lambda split: DataLoader(as_dataset(split), batch_size=5),
    "Dataset": lambda split: TensorDataset(split.images, split.labels),
    "arrays": lambda split: (split.images.permute(0, 2, 3, 1).numpy(), split.labels.tolist()),
}
IN_HAND: dict[str, Callable[[Split], Any]] = {
    "ImageData": lambda split: split.images,
    "DataLoader": lambda split: next(iter(DataLoader(as_dataset(split), batch_size=18)))[0],
    "Dataset": lambda split: torch.stack([image for image, _ in as_dataset(split)]),
    "arrays": lambda split: split.images.numpy(),
}
"""The same for functions that take images alone."""


@dataclass(frozen=True)
class Walk:
    """A network, and images in one of their forms."""

    network: str
    form: str
    model: nn.Module
    folder: Path

    @property
    def train(self) -> Any:
        return FORMS[self.form](TRAIN)

    @property
    def test(self) -> Any:
        return FORMS[self.form](TEST)

    @property
    def images(self) -> Any:
        with torch.random.fork_rng():  # a DataLoader draws by itself
            return IN_HAND[self.form](TEST)

    def fresh(self) -> nn.Module:
        """Return a network of the same code with other weights."""
        with torch.random.fork_rng():
            torch.manual_seed(1)
            return NETWORKS[self.network]()


BRIEFLY: dict[str, Any] = {"epochs": 1, "batch_size": 12, "country": None}


def logits(model: nn.Module, images: Tensor = TEST.images / 255) -> Tensor:
    """Return what a module says, by torch alone."""
    with torch.no_grad():
        return copy.deepcopy(model).eval()(images)  # type: ignore[no-any-return]


def without(model: nn.Module, blocks: Sequence[str]) -> nn.Module:
    """Return a copy of a network whose blocks pass on what they are given."""
    model = copy.deepcopy(model)
    for name in blocks:
        model.get_submodule(name).register_forward_hook(lambda _block, inputs, _outputs: inputs[0])
    return model


def state_of(ticket: rp.Ticket) -> dict[str, Tensor]:
    return {name: value.clone() for name, value in ticket.network.state_dict().items()}


def close(one: Tensor, other: Tensor) -> None:
    torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-5)


def cut(walk: Walk) -> rp.Ticket:
    scores = rp.score_blocks(walk.model, DATA, "random")
    return rp.prune_layers(walk.model, scores, blocks=1, eligibility="identity")


def layers_of(walk: Walk) -> list[str]:
    return [name for name, module in walk.model.named_modules() if isinstance(module, nn.Conv2d)]


def walk_as_data(walk: Walk) -> Any:
    read = rp.as_data(train=walk.train, test=walk.test) if walk.form != "ImageData" else rp.as_data(walk.train)
    assert torch.equal(read.require("train").images, TRAIN.images)
    assert torch.equal(read.require("test").labels, TEST.labels)
    return read.identity


def walk_attack(walk: Walk) -> Any:
    found = rp.run_attack(walk.model, walk.images, TEST.labels, "fgsm", epsilon="8/255")
    assert torch.equal(found.adversarial_predictions, logits(walk.model, found.adversarial).argmax(dim=1))
    assert (found.adversarial - TEST.images / 255).abs().max() <= 8 / 255 + 1e-6
    return found.adversarial


def walk_measure_cost(walk: Walk) -> Any:
    found = rp.measure_cost(walk.model, walk.images[:1])
    assert found.parameters == sum(weight.numel() for weight in walk.model.parameters())
    return found


def walk_describe_cost(walk: Walk) -> Any:
    found = rp.describe_cost(walk.model, data=walk.train, batch_size=4)
    assert found["parameters"] == sum(weight.numel() for weight in walk.model.parameters())
    return found


def walk_evaluate(walk: Walk) -> Any:
    record = rp.evaluate(walk.model, walk.test, attacks=rp.Attacks("fgsm", epsilons=["8/255"]))
    assert record.clean.accuracy == pytest.approx(float((logits(walk.model).argmax(1) == TEST.labels).double().mean()))
    return record.clean, record.attacks[0].robust_accuracy, record.samples_sha256


def walk_evaluate_models(walk: Walk) -> Any:
    records = rp.evaluate_models({"dense": walk.model, "ticket": cut(walk)}, walk.test)
    assert records["dense"].model.parameters > records["ticket"].model.parameters
    return {name: record.clean for name, record in records.items()}


def walk_compare_representations(walk: Walk) -> Any:
    found = rp.compare_representations(walk.model, copy.deepcopy(walk.model), walk.test)
    assert found
    assert all(value == pytest.approx(1) for value in found.values())
    return found


def walk_certify(walk: Walk) -> Any:
    found = rp.certify(walk.model, walk.images, TEST.labels, sigma=1e-6, n=40, n0=10, alpha=0.05)
    # Of so little noise all copies are as the image: the class is the network's, the radius the largest of 40 votes.
    assert found.predictions.tolist() == logits(walk.model).argmax(dim=1).tolist()
    assert found.votes.tolist() == [40] * len(TEST.labels)
    return found.radii.tolist()


def walk_freeze(walk: Walk) -> Any:
    frozen = rp.freeze(walk.model, walk.images[:2])
    with torch.no_grad():
        found = frozen(TEST.images / 255)
    close(found, logits(walk.model))
    return found


def walk_lottery(walk: Walk) -> Any:
    name = f"file:{walked_networks.__file__}:{walk.network}"
    data = rp.as_data(train=walk.train, test=walk.test) if walk.form != "ImageData" else walk.train
    with pytest.raises(rp.ModelError, match=r"file:PATH:NAME"):
        rp.run_lottery(walk.folder / "other", data, algorithm_2("random", 1), model=walk.model)  # type: ignore[arg-type]
    settings = {"recipe": rp.Recipe("quick", epochs=1, batch_size=12), "model": name, "country": None}
    found = rp.run_lottery(walk.folder, data, algorithm_2("random", 1, eligibility="identity"), **settings)
    record = found.rows[0].records[0]
    assert len(record.model.removed) == 1
    return record.clean, found.dense[0].clean


def walk_load_weights(walk: Walk) -> Any:
    torch.save({"state_dict": walk.model.state_dict()}, walk.folder / "weights.pt")
    fresh = walk.fresh()
    rp.load_weights(fresh, walk.folder / "weights.pt")
    assert torch.equal(logits(fresh), logits(walk.model))


def walk_normalized(walk: Walk) -> Any:
    found = logits(rp.normalized(walk.model, 0.4, 0.3))
    close(found, logits(walk.model, (TEST.images / 255 - 0.4) / 0.3))
    return found


def walk_evaluate_ood(walk: Walk) -> Any:
    own, others = walk.test, walk.train
    if walk.form == "ImageData":  # as the other forms: one split, so that detectors that learn say why they cannot
        own, others = rp.as_data(test=TEST), rp.as_data(test=TRAIN)
    found = rp.evaluate_ood(walk.model, own, others)
    expected = -torch.logsumexp(logits(walk.model), dim=1).double()
    np.testing.assert_allclose(np.sort(found.samples["ood_in_energy"]), np.sort(expected.numpy()), rtol=1e-4)
    return {name: detector.auroc for name, detector in found.entries[0].detectors.items()}


def walk_find_blocks(walk: Walk) -> Any:
    found = rp.find_blocks(walk.model, walk.images[:2])
    for block in found:
        if block.residue == "identity":  # which is what their removal leaves
            assert walk.model.get_submodule(block.name) is not None
    return [(block.name, block.residue) for block in found]


def walk_build_model(walk: Walk) -> Any:
    found = rp.build_model("resnet20", walk.train, width=2)
    assert found(TEST.images / 255).shape == (len(TEST.labels), 3)
    return found.state_dict()  # the image set's mean and deviation among it


def walk_prunable_convolutions(walk: Walk) -> Any:
    found = rp.prunable_convolutions(walk.model, example=walk.images[:2])
    assert set(found.values()) <= set(layers_of(walk))
    return found


def walk_score_blocks(walk: Walk) -> Any:
    found = rp.score_blocks(walk.model, walk.train, "snip")
    assert set(found) == {block.name for block in rp.find_blocks(walk.model, TEST.images[:2]) if block.residue}
    return found


def walk_score_tickets(walk: Walk) -> Any:
    found = rp.score_tickets(walk.model, walk.train, "true_drop")
    name = next(block.name for block in rp.find_blocks(walk.model, TEST.images[:2]) if block.residue)
    losses = [
        float(nn.functional.cross_entropy(logits(model, TRAIN.images / 255).double(), TRAIN.labels))
        for model in (walk.model, without(walk.model, [name]))
    ]
    assert found((name,)) == pytest.approx(losses[0] - losses[1], abs=1e-4)
    assert found(()) == 0
    return found((name,))


def walk_score_filters(walk: Walk) -> Any:
    layers = layers_of(walk)[:2]
    found = rp.score_filters(walk.model, layers, walk.train, "l1")
    for name in layers:
        weight = walk.model.get_submodule(name).weight
        close(found[name], weight.detach().double().abs().flatten(1).mean(dim=1))
    return found


def walk_score_weights(walk: Walk) -> Any:
    found = rp.score_weights(walk.model, walk.train, "snip")
    assert {name: value.shape for name, value in found.items()}.items() <= {
        name: value.shape for name, value in walk.model.named_parameters()
    }.items()
    return found


def walk_prune_layers(walk: Walk) -> Any:
    scores = rp.score_blocks(walk.model, DATA, "random")
    ticket = rp.prune_layers(walk.model, scores, blocks=2, eligibility="identity", data=walk.train)
    assert len(ticket.plan.removed) == 2
    close(logits(ticket.network), logits(without(walk.model, list(ticket.plan.removed))))
    return ticket.sha256, ticket.plan.removed


def walk_replace_linear(walk: Walk) -> Any:
    ticket = cut(walk)
    found = rp.replace_linear(ticket, walk.model, walk.train)
    (replacement,) = found.plan.replaced.values()
    assert replacement.error < replacement.plain_error
    assert not torch.equal(logits(found.network), logits(ticket.network))
    return found.sha256, found.plan.replaced


def walk_prune_filters(walk: Walk) -> Any:
    layers = list(rp.prunable_convolutions(walk.model, example=TEST.images[:2]).values())
    scores = rp.score_filters(walk.model, layers, DATA, "l1")
    ticket = rp.prune_filters(walk.model, scores, filters=3, data=walk.train)
    filters = [sum(scores[name].numel() for name in layers)]
    filters.append(sum(ticket.network.get_submodule(name).out_channels for name in layers))
    assert filters[0] - filters[1] == 3
    return ticket.sha256


def walk_prune_weights(walk: Walk) -> Any:
    ticket = rp.prune_weights(walk.model, walk.train, "magnitude", sparsity=0.5)
    masked = copy.deepcopy(walk.model)
    with torch.no_grad():
        for name, mask in ticket.masks.items():
            masked.get_parameter(name).mul_(mask)
    assert torch.equal(logits(ticket.network), logits(masked))
    kept = sum(int(mask.sum()) for mask in ticket.masks.values()) / sum(mask.numel() for mask in ticket.masks.values())
    assert kept == pytest.approx(0.5, abs=0.01)
    return ticket.sha256


def walk_rewind(walk: Walk) -> Any:
    ticket = rp.train(cut(walk), walk.train, **BRIEFLY)
    back = rp.rewind(ticket, walk.model, 0)
    assert all(torch.equal(value, walk.model.state_dict()[name]) for name, value in state_of(back).items())
    return back.sha256, ticket.sha256


def walk_load_ticket(walk: Walk) -> Any:
    ticket = rp.train(cut(walk), walk.train, **BRIEFLY)
    ticket.save(walk.folder / "ticket.pt")
    found = rp.load_ticket(walk.folder / "ticket.pt", into=walk.fresh())
    assert torch.equal(logits(found.network), logits(ticket.network))
    return found.sha256


def walk_train(walk: Walk) -> Any:
    before = walk.model.state_dict()
    trained = rp.train(walk.model, walk.train, **BRIEFLY)
    frozen, *_ = before
    for name, _ in walk.model.named_parameters():
        is_frozen = not walk.model.get_parameter(name).requires_grad
        assert not is_frozen or torch.equal(trained.network.get_parameter(name), before[name])
    assert frozen in before
    assert not torch.equal(logits(trained.network), logits(walk.model))
    return trained.sha256


def walk_export_model(walk: Walk) -> Any:
    rp.export_model(walk.model, walk.folder / "m.pt2", "torch-export", data=walk.train)
    found = torch.export.load(walk.folder / "m.pt2").module()(TEST.images / 255)
    torch.testing.assert_close(found, logits(walk.model), rtol=1e-3, atol=1e-4)
    return found


WALKS: dict[str, Callable[[Walk], Any]] = {
    "run_attack": walk_attack,
    "run_lottery": walk_lottery,
    **{name.removeprefix("walk_"): each for name, each in list(globals().items()) if name.startswith("walk_")},
}
del WALKS["attack"], WALKS["lottery"]
REFUSED = {
    (function, network): "begins with a convolution that only the block itself sees|no block of this network"
    for function in ("prunable_convolutions", "prune_filters")
    for network in ("convnext", "vit")
}
"""What has no meaning for a network, and what is said."""


def pairs() -> list[Any]:
    """Return each function with one's own network on all forms, and with another on one; the slow ones with all on all.

    Exports take seconds each. A lottery takes longest, builds its networks by their names, and is left at its two.
    """
    found, others, forms = [], list(NETWORKS)[1:], list(FORMS)
    for place, function in enumerate(WALKS):
        own, turn = forms[:2] if function == "export_model" else forms, forms[place % len(forms)]
        found.append(pytest.param(function, "own", own, id=f"{function}-own"))
        other = others[place % len(others)]
        marks = pytest.mark.slow if function == "export_model" else ()
        found.append(pytest.param(function, other, [turn], id=f"{function}-{other}-{turn}", marks=marks))
        if function == "run_lottery":
            continue
        for name in NETWORKS if function == "export_model" else others:
            found.append(pytest.param(function, name, forms, id=f"{function}-{name}-all", marks=pytest.mark.slow))
    return found


def marks_of(model: nn.Module) -> dict[str, Any]:
    """Return all that a function could change of a module, and of torch."""
    return {
        "state": {name: value.clone() for name, value in model.state_dict().items()},
        "modes": [module.training for module in model.modules()],
        "gradients": [(weight.requires_grad, weight.grad is None) for weight in model.parameters()],
        "attributes": [sorted(vars(module)) for module in model.modules()],
        "hooks": [
            {name: list(value) for name, value in vars(module).items() if name.endswith("_hooks")}
            for module in model.modules()
        ],
        "generator": torch.get_rng_state(),
    }


def is_same(one: Any, other: Any) -> bool:
    if isinstance(one, Tensor):
        return isinstance(other, Tensor) and torch.equal(one, other)
    if isinstance(one, Mapping):
        return list(one) == list(other) and all(is_same(value, other[name]) for name, value in one.items())
    if isinstance(one, list | tuple):
        return len(one) == len(other) and all(map(is_same, one, other))
    return bool(one == other)


def test_every_public_function_is_walked_or_takes_neither_networks_nor_images() -> None:
    functions = {name for name in rp.__all__ if inspect.isfunction(getattr(rp, name))}
    assert functions == WALKS.keys() | NEITHER.keys() | ALIKE.keys()
    assert not WALKS.keys() & NEITHER.keys()
    for name in NEITHER:
        taken = " ".join(str(each.annotation) for each in inspect.signature(getattr(rp, name)).parameters.values())
        assert not re.search(r"\b(Module|AnyData|Ticket)\b", taken), name


@pytest.mark.quick_cases(20)
@pytest.mark.parametrize(("function", "network", "forms"), pairs())
def test_walk(function: str, network: str, forms: list[str], tmp_path: Path) -> None:
    results = []
    for form in forms:
        model = make(network)
        before = marks_of(model)
        (tmp_path / form).mkdir()
        walk = Walk(network, form, model, tmp_path / form)
        if (function, network) in REFUSED:
            with pytest.raises(rp.PruningError, match=REFUSED[function, network]):
                WALKS[function](walk)
        else:
            results.append(WALKS[function](walk))
        after = marks_of(model)
        changed = [name for name, value in before.items() if not is_same(value, after[name])]
        assert changed == [], form
    assert all(is_same(each, results[0]) for each in results)
