"""What other packages raise comes as one error that names them; what the network raises names the network."""

import pytest
import torch
from extras import needs
from torch import nn

from robustprune.attacks import run_attack
from robustprune.errors import AttackError, MissingDependencyError, ModelError

torchattacks = needs("torchattacks")
Attack = torchattacks.attack.Attack


class Faulty(Attack):
    """Distance Measure : Linf."""

    def __init__(self, model, eps=8 / 255, how="assert"):
        super().__init__("Faulty", model)
        self.how = how

    def forward(self, images, labels):
        print("printed by another package")
        if self.how == "assert":
            raise AssertionError
        if self.how == "import":
            raise ModuleNotFoundError("No module named 'numba'", name="numba")
        if self.how == "shape":
            return images[:, :, :-1]
        if self.how == "nothing":
            return None
        if self.how == "wrapped":
            try:
                self.get_logits(images[:, :, :2, :2])
            except Exception as error:
                raise ValueError("all went wrong") from error
        if self.how == "exit":
            raise KeyError("key")
        raise RuntimeError("a sentence\n   of two lines")


@pytest.fixture(autouse=True)
def faulty(monkeypatch):
    monkeypatch.setattr(torchattacks, "Faulty", Faulty, raising=False)


@pytest.mark.parametrize(
    ("how", "kind", "said"),
    [
        ("assert", AttackError, "torchattacks:Faulty failed: AssertionError; give it"),
        ("import", MissingDependencyError, r"torchattacks:Faulty needs the package 'numba'.*pip install numba"),
        (
            "shape",
            AttackError,
            r"torchattacks:Faulty failed: TypeError: it returned shape \(20, 1, 7, 8\) for images",
        ),
        ("nothing", AttackError, "torchattacks:Faulty failed: TypeError: it returned NoneType for images"),
        ("exit", AttackError, "torchattacks:Faulty failed: KeyError: 'key'"),
        ("other", AttackError, "torchattacks:Faulty failed: RuntimeError: a sentence of two lines; give it"),
        ("wrapped", ModelError, r"^the model cannot run on images of shape \(20, 1, 2, 2\)"),
    ],
)
def test_whatever_it_raises_is_one_error(network, test_images, how, kind, said, capsys):
    labels = network(test_images[:20]).argmax(1)
    with pytest.raises(kind, match=said) as raised:
        run_attack(network, test_images[:20], labels, "torchattacks:Faulty", how=how)
    assert "\n" not in str(raised.value)
    printed = capsys.readouterr()
    assert printed.out == ""
    assert "printed by another package" in printed.err


@pytest.mark.parametrize(
    ("name", "norm", "said"),
    [
        ("foolbox:DatasetAttack", "l2", "feed"),
        ("foolbox:BinarizationRefinementAttack", "l1", "starting_points"),
        ("foolbox:GenAttack", "linf", "ValueError: unsupported criterion; give it other options, targets or none"),
        ("foolbox:VirtualAdversarialAttack", "l2", "needs a value for steps"),
        ("torchattacks:TIFGSM", "linf", "to have 3 channels"),
        ("torchattacks:FAB", "l1", "UnboundLocalError"),
    ],
)
def test_the_reason_is_said_with_the_name(network, test_images, test_labels, name, norm, said):
    with pytest.raises(AttackError, match=f"{name}.*{said}"):
        run_attack(network, test_images[:20], test_labels[:20], name, norm=norm)


@pytest.mark.parametrize("name", ["torchattacks:TPGD", "foolbox:NewtonFoolAttack"])
def test_one_without_targets_says_so(network, test_images, test_labels, name):
    norm = "linf" if "TPGD" in name else "l2"
    targets = (test_labels[:20] + 1) % 10
    with pytest.raises(AttackError, match=f"{name} failed: .*; give it other options, targets or none"):
        run_attack(network, test_images[:20], test_labels[:20], name, norm=norm, targets=targets)


class FailsLater(nn.Module):
    def __init__(self, network, error):
        super().__init__()
        self.network, self.error, self.passes = network, error, 0

    def forward(self, images):
        self.passes += 1
        if self.passes > 4:
            raise self.error
        return self.network(images)


@pytest.mark.parametrize(
    "name", ["torchattacks:PGD", "torchattacks:Square", "foolbox:LinfPGD", "foolbox:LinfDeepFoolAttack"]
)
def test_the_networks_own_error_blames_the_network(network, test_images, test_labels, name):
    model = FailsLater(network, RuntimeError("a bug of mine")).eval()
    with pytest.raises(ModelError, match=r"^the model cannot run on images of shape .*a bug of mine"):
        run_attack(model, test_images[:20], test_labels[:20], name, frozen=False)


class Cut(nn.Module):
    def __init__(self, network):
        super().__init__()
        self.network = network

    def forward(self, images):
        return self.network(images.detach())


@pytest.mark.parametrize("name", ["torchattacks:PGD", "torchattacks:DeepFool", "foolbox:L2PGD"])
def test_logits_cut_off_from_the_input_are_a_clean_error(network, test_images, test_labels, name):
    norm = "linf" if name.endswith(":PGD") else "l2"
    with pytest.raises(AttackError, match=f"{name} failed: .*(grad|differentiated|NoneType)"):
        run_attack(Cut(network), test_images[:20], test_labels[:20], name, norm=norm)


def test_one_without_gradients_is_marked_where_there_are_none(network, test_images, test_labels, verdict):
    result = run_attack(Cut(network), test_images[:20], test_labels[:20], "torchattacks:Square", n_queries=5)
    assert verdict(result, "single step") == "WARN"


class BackwardFails(torch.autograd.Function):
    @staticmethod
    def forward(ctx, images):
        return images.clone()

    @staticmethod
    def backward(ctx, gradient):
        raise NotImplementedError("no way back")


def test_a_backward_pass_that_fails_is_the_networks(network, test_images, test_labels):
    class NoWayBack(nn.Module):
        def forward(self, images):
            return network(BackwardFails.apply(images))

    with pytest.raises(ModelError, match=r"the model has no gradient at images .* NotImplementedError: no way back"):
        run_attack(NoWayBack(), test_images[:20], test_labels[:20], "pgd")


def test_memory_that_runs_out_within_is_shared_out(network, test_images, test_labels, monkeypatch):
    class Hungry(torchattacks.PGD):
        """Distance Measure : Linf."""

        def forward(self, images, labels):
            if len(images) > 10:
                raise RuntimeError("DefaultCPUAllocator: can't allocate memory")
            return super().forward(images, labels)

    monkeypatch.setattr(torchattacks, "Hungry", Hungry, raising=False)
    with pytest.warns(match="memory ran out on .* samples at once"):
        result = run_attack(network, test_images[:40], test_labels[:40], "torchattacks:Hungry", epsilon=0.1)
    assert result.robust_accuracy < result.clean_accuracy


@pytest.mark.parametrize(
    "name", ["torchattacks:PGDL2", "torchattacks:SparseFool", "torchattacks:DeepFool", "foolbox:L2PGD"]
)
def test_images_and_gradients_lie_in_the_usual_order(monkeypatch, name):
    """Through channels-last weights gradients come in their order, from channels-last images so do the images."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.Flatten(), nn.Linear(8 * 36, 4))
        images = torch.rand(6, 3, 8, 8).to(memory_format=torch.channels_last)
    labels = network.eval()(images).argmax(1)
    assert not images.is_contiguous()
    result = run_attack(network, images, labels, name, norm="l2", epsilon=1.0)
    assert result.valid


@pytest.mark.parametrize("frozen", [True, False])
def test_no_package_puts_the_model_in_training_mode(network, test_images, test_labels, verdict, frozen):
    model = nn.Sequential(network, nn.Dropout(0.5)).eval()
    for name in ("torchattacks:PGD", "foolbox:LinfPGD"):
        result = run_attack(model, test_images, test_labels, name, epsilon=0.05, frozen=frozen, steps=2, batch_size=64)
        assert verdict(result, "mode") == "PASS"
        assert not any(module.training for module in model.modules())
