from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import nn

from robustprune.data import ImageData, load_data
from robustprune.errors import ModelError, PruningError, TicketError
from robustprune.models import build_model
from robustprune.models.networks import set_weights
from robustprune.pruning import BlockScores, find_blocks, score_blocks
from robustprune.runtime.files import write_sealed
from robustprune.tickets import prune_layers
from robustprune.tickets.ticket import FORMAT, Ticket, load_ticket
from robustprune.training import train

USER_NETWORK = """
from pathlib import Path
from torch import nn

Path(__file__).with_name("marker").touch()

class Net(nn.Module):
    def __init__(self, num_classes, hidden=5):
        super().__init__()
        self.layers = nn.Sequential(nn.Flatten(), nn.Linear(64, hidden), nn.ReLU(), nn.Linear(hidden, num_classes))

    def forward(self, images):
        return self.layers(images)
"""


@pytest.fixture(scope="module")
def trained(few_digits: ImageData) -> Ticket:
    model = build_model("resnet20", few_digits, width=4, seed=3)
    scores = score_blocks(model, few_digits, "random", seed=5)
    ticket = prune_layers(model, scores, blocks=2, data=few_digits)
    return train(ticket, few_digits, epochs=1, country=None)


@pytest.fixture
def dense(few_digits: ImageData) -> Ticket:
    return Ticket.from_model(build_model("resnet20", few_digits, width=4), few_digits)


def content_of(path: Path) -> dict[str, Any]:
    found: dict[str, Any] = torch.load(path, weights_only=True)
    return found


def test_round_trip_is_exact(trained: Ticket, tmp_path: Path, few_digits: ImageData) -> None:
    path = tmp_path / "ticket.pt"
    trained.save(path)
    found = load_ticket(path)
    before, after = trained.network.state_dict(), found.network.state_dict()
    assert list(before) == list(after)
    for name, value in before.items():
        assert value.dtype == after[name].dtype
        assert value.numpy().tobytes() == after[name].numpy().tobytes()  # bit by bit
    for name in ("architecture", "plan", "scores", "seed", "data", "history", "training", "provenance", "sha256"):
        assert getattr(found, name) == getattr(trained, name), name
    assert len(found.history) == 1
    assert len(found.plan.removed) == 2
    assert found.plan.seed == 5
    assert not any(module.training for module in found.model().modules())
    images = few_digits.require("test").images[:8].float() / 255
    with torch.no_grad():
        assert torch.equal(found.model()(images), trained.model()(images))
    # The image set it remembers is the very one it was trained on.
    assert load_data(**found.data).provenance["sha256"] == few_digits.provenance["sha256"]
    found.save(tmp_path / "again.pt")
    assert load_ticket(tmp_path / "again.pt").sha256 == trained.sha256


class OfAFormat(nn.Linear):
    """As torchvision's MNASNet: takes weights without the version of their format for older ones."""

    _version = 2

    def _load_from_state_dict(self, state_dict, prefix, local_metadata, *others):  # type: ignore[no-untyped-def]
        if local_metadata.get("version") != self._version:
            raise ValueError("weights of an older format")
        super()._load_from_state_dict(state_dict, prefix, local_metadata, *others)


def test_the_versions_of_modules_formats_outlive_tickets_and_checkpoints(tmp_path: Path) -> None:
    data = load_data("digits", train_limit=40, image_size=32, channels=3)
    ticket = Ticket.from_model(build_model("torchvision:mnasnet0_5", data), data)
    ticket.save(tmp_path / "ticket.pt")
    assert load_ticket(tmp_path / "ticket.pt").sha256 == ticket.sha256
    network = OfAFormat(3, 2)
    weights = {name: value + 1 for name, value in network.state_dict().items()}
    set_weights(network, weights)
    assert torch.equal(network.weight, weights["weight"])


def test_plain_torch_reads_the_weights(trained: Ticket, tmp_path: Path) -> None:
    trained.save(tmp_path / "ticket.pt")
    weights = content_of(tmp_path / "ticket.pt")["weights"]
    assert all(torch.equal(weights[name], value) for name, value in trained.network.state_dict().items())


def test_sha256_is_of_the_weights_alone(dense: Ticket) -> None:
    before = dense.sha256
    dense.network.to(memory_format=torch.channels_last)
    dense.history.append({"epoch": 1})
    assert dense.sha256 == before
    dense.network.bn1.running_mean[0] += 1e-6  # type: ignore[union-attr, index, operator]
    assert dense.sha256 != before


def test_pruning_again_keeps_what_is_gone(few_digits: ImageData, tmp_path: Path) -> None:
    model = build_model("resnet32", few_digits, width=4)
    dense = Ticket.from_model(model, few_digits)
    names = [block.name for block in find_blocks(model)]
    order = BlockScores({name: -float(place) for place, name in enumerate(names)}, criterion="by hand")
    once = prune_layers(dense, order, blocks=2)
    assert list(once.plan.removed) == ["layer3.4", "layer3.3"]
    once.save(tmp_path / "once.pt")
    left = BlockScores({name: order[name] for name in names if name not in once.plan.removed}, criterion="by hand")
    twice = prune_layers(load_ticket(tmp_path / "once.pt"), left, blocks=2)
    assert list(twice.plan.removed) == ["layer3.4", "layer3.3", "layer3.2", "layer2.4"]
    assert twice.data == dense.data
    twice.save(tmp_path / "twice.pt")
    found = load_ticket(tmp_path / "twice.pt")
    assert found.plan == twice.plan
    assert found.sha256 == twice.sha256
    assert [block.name for block in find_blocks(found.network)] == [
        name for name in names if name not in twice.plan.removed
    ]
    # What stays has the weights of the dense network: a block is removed, not a network rebuilt.
    state = model.state_dict()
    assert all(torch.equal(value, state[name]) for name, value in found.network.state_dict().items())
    assert len(find_blocks(model)) == 15


def test_too_many_or_unknown_requests(dense: Ticket) -> None:
    scores = BlockScores({block.name: 0.0 for block in find_blocks(dense.network)}, criterion="by hand")
    with pytest.raises(PruningError, match="at most 3"):
        prune_layers(dense, scores, blocks=4)
    with pytest.raises(PruningError, match="autors"):
        prune_layers(dense, scores, blocks=1, eligibility="autors")  # type: ignore[arg-type]
    with pytest.raises(ModelError, match="does not know how it was built"):
        prune_layers(torch.nn.Linear(2, 2), scores, blocks=1)


def test_another_image_set_does_not_fit(dense: Ticket) -> None:
    with pytest.raises(TicketError, match=r"takes 1×8×8 images of 10 classes.*has 3×32×32 images of 2 classes"):
        dense.check_fits(load_data("photo-patches"))


@pytest.fixture
def user_ticket(few_digits: ImageData, tmp_path: Path) -> Path:
    (tmp_path / "net.py").write_text(USER_NETWORK)
    model = build_model(f"file:{tmp_path / 'net.py'}:Net", few_digits, hidden=7)
    Ticket.from_model(model, few_digits).save(tmp_path / "user.pt")
    (tmp_path / "marker").unlink()
    return tmp_path / "user.pt"


def test_ticket_of_a_file_runs_no_code_by_itself(user_ticket: Path) -> None:
    marker = user_ticket.with_name("marker")
    with pytest.raises(TicketError, match=r"Net in net\.py; a ticket never runs code by itself.*--model-code net\.py"):
        load_ticket(user_ticket)
    assert not marker.exists()
    found = load_ticket(user_ticket, model_code=user_ticket.with_name("net.py"))
    assert marker.exists()
    assert found.network.state_dict()["network.layers.1.weight"].shape == (7, 64)
    assert found.sha256 == load_ticket(user_ticket, model_code=str(user_ticket.with_name("net.py"))).sha256


def test_code_that_is_missing_or_another(user_ticket: Path, tmp_path: Path) -> None:
    with pytest.raises(TicketError, match="there is no file"):
        load_ticket(user_ticket, model_code=tmp_path / "missing.py")
    (tmp_path / "other.py").write_text("Net = 5\n")
    with pytest.raises(TicketError, match=r"not a torch nn\.Module"):
        load_ticket(user_ticket, model_code=tmp_path / "other.py")
    (tmp_path / "broken.py").write_text("1 / 0\n")
    with pytest.raises(TicketError, match="ZeroDivisionError"):
        load_ticket(user_ticket, model_code=tmp_path / "broken.py")


def weights_of_another(content: dict[str, Any]) -> None:
    content["weights"]["fc.weight"] = torch.zeros(3, 16)


def no_weights(content: dict[str, Any]) -> None:
    del content["weights"]


def missing_weight(content: dict[str, Any]) -> None:
    del content["weights"]["conv1.weight"]


def extra_weight(content: dict[str, Any]) -> None:
    content["weights"]["more.weight"] = torch.zeros(1)


def no_tensors(content: dict[str, Any]) -> None:
    content["weights"] = [1, 2, 3]


def later_schema(content: dict[str, Any]) -> None:
    content["header"]["schema_version"] = 2


def extra_key(content: dict[str, Any]) -> None:
    content["header"]["surprise"] = 1


def missing_key(content: dict[str, Any]) -> None:
    del content["header"]["architecture"]


def no_header(content: dict[str, Any]) -> None:
    del content["header"]


def header_of_other_type(content: dict[str, Any]) -> None:
    content["header"] = torch.zeros(2)


def unknown_block(content: dict[str, Any]) -> None:
    content["header"]["plan"]["removed"]["layer9.1"] = "identity"


def last_layer(content: dict[str, Any]) -> None:
    content["header"]["plan"]["removed"]["fc"] = "identity"
    content["weights"] = {name: value for name, value in content["weights"].items() if not name.startswith("fc.")}


def nameless_block(content: dict[str, Any]) -> None:
    content["header"]["plan"]["removed"][""] = "identity"


def unknown_residue(content: dict[str, Any]) -> None:
    content["header"]["plan"]["removed"]["layer1.1"] = "nothing"


def unknown_model(content: dict[str, Any]) -> None:
    content["header"]["architecture"]["name"] = "resnet23"


def unknown_option(content: dict[str, Any]) -> None:
    content["header"]["architecture"]["options"]["depth"] = 3


def tiny_images(content: dict[str, Any]) -> None:
    content["header"]["architecture"]["image_size"] = (2, 2)


def download(content: dict[str, Any]) -> None:
    content["header"]["data"]["download"] = True


def workers(content: dict[str, Any]) -> None:
    content["header"]["data"]["workers"] = 100_000


@pytest.mark.parametrize(
    ("change", "match"),
    [
        (weights_of_another, r"do not fit resnet20.*fc\.weight"),
        (no_weights, "weights"),
        (missing_weight, r"do not fit resnet20.*conv1\.weight"),
        (extra_weight, r"do not fit resnet20.*more\.weight"),
        (no_tensors, "do not fit resnet20"),
        (later_schema, r"another version of robustprune.*header\.schema_version"),
        (extra_key, r"header\.surprise: Extra inputs"),
        (missing_key, r"header\.architecture: Field required"),
        (no_header, "header: "),
        (header_of_other_type, "header: "),
        (unknown_block, r"cannot be built.*removes 'layer9\.1', which is no residual block"),
        (last_layer, "removes 'fc', which is no residual block"),
        (nameless_block, "removes '', which is no residual block"),
        (unknown_residue, r"header\.plan\.removed\.layer1\.1"),
        (unknown_model, "cannot be built: there is no model called 'resnet23'. Did you mean"),
        (unknown_option, "cannot be built.*depth"),
        (tiny_images, r"header\.architecture\.image_size"),
        (download, "not described by 'download'"),
        (workers, "not described by 'workers'"),
    ],
    ids=lambda value: value.__name__ if callable(value) else "",
)
def test_well_sealed_tickets_that_make_no_sense(
    dense: Ticket, tmp_path: Path, change: Callable[[dict[str, Any]], None], match: str
) -> None:
    path = tmp_path / "ticket.pt"
    dense.save(path)
    content = content_of(path)
    change(content)
    write_sealed(path, content)
    with pytest.raises(TicketError, match=match) as caught:
        load_ticket(path)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 700


def test_another_kind_of_sealed_file(tmp_path: Path) -> None:
    write_sealed(tmp_path / "run.checkpoint", {"format": "robustprune-checkpoint", "weights": {}})
    with pytest.raises(TicketError, match=f"holds 'robustprune-checkpoint', not '{FORMAT}'"):
        load_ticket(tmp_path / "run.checkpoint")


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_damage_of_any_kind(dense: Ticket, tmp_path: Path, data: st.DataObject) -> None:
    path = tmp_path / "ticket.pt"
    path.unlink(missing_ok=True)
    dense.save(path)
    whole = bytearray(path.read_bytes())
    start = data.draw(st.integers(0, len(whole) - 1))
    length = data.draw(st.integers(1, 200))
    replacement = data.draw(st.binary(max_size=200).filter(lambda new: new != bytes(whole[start : start + length])))
    whole[start : start + length] = replacement
    path.write_bytes(whole)
    with pytest.raises(TicketError):
        load_ticket(path)


def test_not_a_ticket_at_all(tmp_path: Path) -> None:
    (tmp_path / "noise.pt").write_bytes(random.Random(0).randbytes(4000))
    torch.save(torch.nn.Linear(2, 2).state_dict(), tmp_path / "foreign.pt")
    (tmp_path / "empty.pt").touch()
    for name, match in {
        "noise.pt": "no tensors sealed by robustprune",
        "foreign.pt": "a PyTorch file of some other program",
        "empty.pt": "or cut short",
        "missing.pt": "there is no file",
        ".": "Is a directory",
    }.items():
        with pytest.raises(TicketError, match=match):
            load_ticket(tmp_path / name)


def test_where_no_ticket_can_be_written(dense: Ticket, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(TicketError, match="is a file, not a folder"):
        dense.save(tmp_path / "file" / "ticket.pt")
    with pytest.raises(TicketError, match="directory"):
        dense.save(tmp_path)


def test_initial_seed_and_rounds_are_remembered(tmp_path: Path) -> None:
    data = load_data("digits", train_limit=200)
    network = build_model("resnet20", data, seed=5, width=4)
    once = prune_layers(network, score_blocks(network, data, "random", seed=3), blocks=1, data=data)
    twice = prune_layers(once, score_blocks(once.network, data, "snip", seed=4), blocks=1)
    twice.save(tmp_path / "ticket.pt")
    loaded = load_ticket(tmp_path / "ticket.pt")
    assert loaded.seed == 5
    assert (loaded.plan.criterion, loaded.plan.seed) == ("snip", 4)
    assert [(plan.criterion, plan.seed) for plan in loaded.plan.earlier] == [("random", 3)]
    assert list(loaded.plan.removed)[:1] == list(loaded.plan.earlier[0].removed)


@pytest.mark.parametrize("data", [{"name": "noise", "seed": "x"}, {"name": "digits", "image_size": 100_000}])
def test_data_of_a_ticket_have_the_types_of_load_data(tmp_path: Path, data: dict[str, object]) -> None:
    digits = load_data("digits", train_limit=200)
    ticket = Ticket.from_model(build_model("resnet20", digits, width=4), digits)
    ticket.data = data
    with pytest.raises((TicketError, ValueError)):
        ticket.save(tmp_path / "ticket.pt")
    assert not (tmp_path / "ticket.pt").exists()


def test_weights_without_a_numpy_type_are_hashed() -> None:
    digits = load_data("digits", train_limit=200)
    ticket = Ticket.from_model(build_model("resnet20", digits, width=4), digits)
    full = ticket.sha256
    ticket.network.bfloat16()
    assert len(ticket.sha256) == 64
    assert ticket.sha256 != full
