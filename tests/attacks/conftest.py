import pytest
import torch
from sklearn.datasets import load_digits
from torch import nn
from torch.nn import functional as F

from robustprune.attacks import ATTACKS, register_attack


@pytest.fixture(scope="session")
def digits():
    """Images (N, 1, 8, 8) float in [0, 1] and labels, the last 300 for attacks."""
    images, labels = load_digits(return_X_y=True)
    return torch.tensor(images / 16, dtype=torch.float32).reshape(-1, 1, 8, 8), torch.tensor(labels)


@pytest.fixture(scope="session")
def _trained_network(digits):
    images, labels = (part[:-300] for part in digits)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = nn.Sequential(
            nn.Conv2d(1, 12, 3, padding=1),
            nn.BatchNorm2d(12),
            nn.ReLU(),
            nn.Conv2d(12, 16, 3, stride=2),
            nn.ReLU(),
            nn.Flatten(),
            nn.Linear(16 * 9, 10),
        )
        optimizer = torch.optim.Adam(network.parameters(), 5e-3)
        for _ in range(6):
            for rows in torch.randperm(len(images)).split(64):
                optimizer.zero_grad()
                F.cross_entropy(network(images[rows]), labels[rows]).backward()
                optimizer.step()
    return network.eval().requires_grad_(True)


@pytest.fixture
def network(_trained_network):
    """A small network, trained; a test may change its modes and what takes gradients, but not its weights."""
    _trained_network.zero_grad(set_to_none=True)
    return _trained_network.eval().requires_grad_(True)


@pytest.fixture
def test_images(digits):
    return digits[0][-300:].clone()


@pytest.fixture
def test_labels(digits):
    return digits[1][-300:].clone()


@pytest.fixture
def verdict():
    """Look a check's verdict up by name."""
    return lambda result, name: {check.name: check.verdict for check in result.checks}[name]


@pytest.fixture
def register():
    """Register an attack for one test."""
    names = []

    def register(name, attack):
        names.append(name)
        return register_attack(name)(attack)

    yield register
    for name in names:
        del ATTACKS._registered[name]
