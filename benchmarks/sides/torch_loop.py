"""The networks as loops over time in PyTorch, with the neurons of a library handed in.

The data is on the device from the beginning, and a minibatch is gathered there: less work than a
DataLoader does.
"""

import time
from collections.abc import Callable
from typing import Any

import torch

from sides.task import (
    CLASSES,
    FEATURES,
    HIDDEN,
    MOMENTUM,
    Task,
    columns,
    frames,
)

Neuron = Callable[
    [torch.Tensor, Any], tuple[torch.Tensor, Any]
]  # (input, state) -> (spikes, state)


class Network(torch.nn.Module):
    """Linear, neuron, Linear, neuron, with the memory of ss or fb; state None is the first."""

    def __init__(self, task: Task, hidden: Neuron, output: Neuron) -> None:
        super().__init__()
        self.network, self.hidden, self.output = task.network, hidden, output
        self.first = torch.nn.Linear(FEATURES, HIDDEN)
        self.second = torch.nn.Linear(HIDDEN, CLASSES)
        if task.network == "fb":
            self.rc = torch.nn.Linear(HIDDEN + HIDDEN, HIDDEN)
        if task.network == "ss":
            self.w = torch.nn.Parameter(torch.zeros(()))
        load(self, task.start())

    def forward(self, xs: torch.Tensor) -> torch.Tensor:
        """`[T, N, 28]` -> firing rates `[N, 10]`."""
        currents, spikes = self.first(xs), []
        memory = xs.new_zeros(xs.shape[1], HIDDEN)
        hidden = output = None
        for current in currents:
            if self.network == "fb":
                current = self.rc(torch.cat([current, memory], dim=-1))
            s, hidden = self.hidden(current, hidden)
            if self.network == "fb":
                memory = s
            if self.network == "ss":
                s = memory = memory - (1 - s) * memory * self.w.sigmoid() + s
            s, output = self.output(self.second(s), output)
            spikes.append(s)
        return torch.stack(spikes).mean(0)


def load(net: Any, start: dict[str, Any]) -> None:
    """Gives the network the task's parameters."""
    values = {"first": "1", "second": "2", "rc": "r"}
    with torch.no_grad():
        for name, letter in values.items():
            if hasattr(net, name):
                getattr(net, name).weight.copy_(torch.from_numpy(start["w" + letter].T))
                getattr(net, name).bias.copy_(torch.from_numpy(start["b" + letter]))


class Loop:
    """Abstract: trains what `build` returns."""

    def __init__(self, task: Task) -> None:
        self.task = task
        self.device = "cuda" if torch.cuda.is_available() else "cpu"
        if task.network == "sew":
            images = frames(task.images[:, None])  # [n, T, 1, 28, 28], channels first
        else:
            images = columns(task.images[:, None])[:, :, 0]
        self.images = torch.from_numpy(images).to(self.device)
        self.labels = torch.from_numpy(task.labels).long().to(self.device)
        self.net, self.optimizer = self._fresh()
        self.info = {"device": self.device, "threads": torch.get_num_threads()}

    def build(self) -> torch.nn.Module:
        """The network with the task's parameters."""
        raise NotImplementedError  # by each library's own loop

    def _fresh(self) -> tuple[torch.nn.Module, torch.optim.Optimizer]:
        net = self.build().to(self.device)
        return net, torch.optim.SGD(net.parameters(), lr=self.task.learning_rate, momentum=MOMENTUM)

    def _train(self, net: Any, optimizer: Any, order: torch.Tensor) -> list[torch.Tensor]:
        losses = []
        for batch in order.to(self.device):
            optimizer.zero_grad()
            rates = net(self.images[batch].transpose(0, 1))
            target = torch.nn.functional.one_hot(self.labels[batch], CLASSES).float()
            loss = torch.nn.functional.mse_loss(rates, target)
            loss.backward()
            optimizer.step()
            self.after_step(net)
            losses.append(loss.detach())
        return losses

    def after_step(self, net: Any) -> None:
        """What the library wants done after an update."""

    def losses(self, count: int) -> tuple[float, float]:
        """Loss of the first minibatch, and the mean of the first `count`."""
        order = torch.from_numpy(self.task.order()[:count])
        found = torch.stack(self._train(*self._fresh(), order))
        return float(found[0]), float(found.mean())

    def epoch(self) -> float:
        """Trains one epoch in a fresh order."""
        size, steps = self.task.batch_size, self.task.minibatches
        start = time.perf_counter()
        order = torch.randperm(len(self.labels))[: size * steps].reshape(steps, size)
        losses = self._train(self.net, self.optimizer, order)
        torch.stack(losses).mean().item()  # waits for the device
        return time.perf_counter() - start
