"""A network, a DataLoader and a checkpoint of one's own: from scoring its blocks to the report.

Run it in an empty folder: python own_model.py
"""

from __future__ import annotations

import torch
from sklearn.datasets import load_digits
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

import robustprune as rp


class Block(nn.Module):
    """A residual block, as there are many: its input plus a branch."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.branch = nn.Sequential(
            *(nn.Conv2d(width, width, 3, padding=1, bias=False), nn.BatchNorm2d(width), nn.ReLU()),
            *(nn.Conv2d(width, width, 3, padding=1, bias=False), nn.BatchNorm2d(width)),
        )

    def forward(self, maps: Tensor) -> Tensor:
        return (maps + self.branch(maps)).relu()


class MyNet(nn.Module):
    """Images (N, 1, 8, 8) in [0, 1] to logits (N, 10)."""

    def __init__(self, width: int = 16, depth: int = 5) -> None:
        super().__init__()
        self.stem = nn.Conv2d(1, width, 3, padding=1)
        self.blocks = nn.Sequential(*(Block(width) for _ in range(depth)))
        self.head = nn.Linear(width, 10)

    def forward(self, images: Tensor) -> Tensor:
        return self.head(self.blocks(self.stem(images).relu()).mean(dim=(2, 3)))


def my_loaders() -> tuple[DataLoader[tuple[Tensor, ...]], DataLoader[tuple[Tensor, ...]]]:
    """Return training and test images, float in [0, 1], with their labels."""
    pixels, digits = load_digits(return_X_y=True)
    images = torch.tensor(pixels * 255 / 16).round().view(-1, 1, 8, 8).float() / 255
    labels = torch.tensor(digits)
    train, test = TensorDataset(images[:1400], labels[:1400]), TensorDataset(images[1400:], labels[1400:])
    return DataLoader(train, batch_size=100, shuffle=True), DataLoader(test, batch_size=100)


def main() -> None:
    """Score, prune, train, attack, report."""
    torch.manual_seed(0)
    torch.save(MyNet().state_dict(), "mynet.pt")  # yours is there already, trained or not

    model = MyNet()
    rp.load_weights(model, "mynet.pt")
    train, test = my_loaders()
    data = rp.as_data(train=train, test=test, name="my-digits")

    scores = rp.score_blocks(model, data, criterion="snip")
    ticket = rp.prune_layers(model, scores, blocks=2, data=data)
    with rp.progress_bar() as bar:
        work = rp.Work(progress=bar)
        dense = rp.train(model, data, epochs=5, work=work)  # a copy of it: the model is left as it is
        rp.train(ticket, data, epochs=5, work=work).save("ticket.pt")
        again = rp.load_ticket("ticket.pt", into=MyNet())  # the file holds weights and plan, never code

        attacks = rp.Attacks(["fgsm", "pgd"], epsilons=["4/255", "16/255"], steps=10)
        records = rp.evaluate_models({"dense": dense, "layers": again}, data, attacks=attacks, work=work)

    for name, record in records.items():
        record.save(f"{name}.json")
        print(f"{name}: {100 * record.clean.accuracy:.1f} % accurate, {record.model.macs:,} MACs an image")
    rp.write_report({name: [record] for name, record in records.items()}, "report.html")


if __name__ == "__main__":
    main()
