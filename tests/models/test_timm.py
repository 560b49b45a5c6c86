from __future__ import annotations

from importlib.metadata import version
from pathlib import Path

import pytest
import torch
from extras import needs
from packaging.version import Version
from support import Shape

from robustprune.errors import ModelError, TicketError
from robustprune.models import build_model
from robustprune.models.architecture import Architecture
from robustprune.models.build import build_network
from robustprune.tickets.ticket import Ticket, load_ticket

needs("timm")


@pytest.mark.parametrize(
    ("name", "size"), [("resnet18", 32), ("vit_tiny_patch16_224", 48), ("convnext_atto", 32), ("cait_xxs24_224", 32)]
)
def test_network_is_fitted_and_normalized(name: str, size: int) -> None:
    network = build_model(f"timm:{name}", Shape(channels=1, image_size=(size, size), num_classes=4))
    images = torch.rand(2, 1, size, size)
    logits = network(images)
    assert logits.shape == (2, 4)
    torch.testing.assert_close(logits, network.network((images - 0.4) / 0.2))


def test_penultimate_features_feed_the_last_layer() -> None:
    network = build_model("timm:resnet18", Shape())
    images = torch.rand(2, 3, 32, 32)
    torch.testing.assert_close(network.network.fc(network.forward_features(images)), network(images))


def test_seed_decides_the_weights() -> None:
    first, again, other = (
        build_model("timm:mobilenetv3_small_050", Shape(), seed=seed).network.conv_stem.weight for seed in (1, 1, 2)
    )
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_options_are_passed_on() -> None:
    assert len(build_model("timm:vit_tiny_patch16_224", Shape(), depth=3).network.blocks) == 3


def test_options_it_does_not_take() -> None:
    with pytest.raises(ModelError, match="'bogus'"):
        build_model("timm:resnet18", Shape(), bogus=1)


@pytest.mark.parametrize("option", ["pretrained", "checkpoint_path", "pretrained_cfg", "weights", "cache_dir"])
def test_weights_are_not_an_option_not_even_of_a_ticket(option: str) -> None:
    architecture = Architecture.for_data("timm:resnet18", Shape(), **{option: "1"})
    with pytest.raises(ModelError, match="nothing is downloaded unasked"):
        build_network(architecture)


@pytest.mark.parametrize(
    ("name", "message"),
    [("resnet51", "Did you mean"), ("resnet18.a1_in1k", "Did you mean 'resnet18'"), ("hf-hub:some/model", "no model")],
)
def test_only_timms_own_names_are_taken(name: str, message: str) -> None:
    with pytest.raises(ModelError, match=message):
        build_model(f"timm:{name}", Shape())


def test_image_size_it_cannot_take_is_explained() -> None:
    with pytest.raises(ModelError, match=r"vit_tiny_patch16_224 for 9×9|does not run on 3×9×9"):
        build_model("timm:vit_tiny_patch16_224", Shape(image_size=(9, 9)))


def test_image_size_it_may_divide_by_zero_at_is_explained_or_computed() -> None:
    # Swin V2 scales positions by the window's side less one, and the last stage has windows of 1×1 here: timm 1.0.9
    # divides by zero, 1.0.31 does not.
    shape, name = Shape(), "timm:swinv2_tiny_window8_256"
    if Version(version("timm")) <= Version("1.0.9"):
        with pytest.raises(ModelError, match="too small"):
            build_model(name, shape)
    else:
        assert build_model(name, shape)(torch.rand(2, 3, 32, 32)).isfinite().all()


def test_ticket_comes_back_and_a_foreign_one_reads_no_weights(tmp_path: Path) -> None:
    network = build_model("timm:mobilenetv3_small_050", Shape())
    ticket = Ticket.from_model(network)
    ticket.save(tmp_path / "ticket.pt")
    images = torch.rand(2, 3, 32, 32)
    torch.testing.assert_close(load_ticket(tmp_path / "ticket.pt").model()(images), network.eval()(images))

    ticket.architecture = ticket.architecture.model_copy(update={"options": {"checkpoint_path": "/etc/passwd"}})
    ticket.save(tmp_path / "foreign.pt")
    with pytest.raises(TicketError, match="nothing is downloaded unasked"):
        load_ticket(tmp_path / "foreign.pt")
