"""SpikingJelly: the script that its tutorial tells one to run, from the installed package.

    python -m spikingjelly.activation_based.examples.rsnn_sequential_fmnist -model ss -b 256 ...

The script runs unchanged, with torchvision's data set and its own DataLoader, in a thread of this
process; the only thing that is ours is what it prints to: after each epoch's last line that waits
for the next command. The time is that of the training half of the epoch, from the speed that the
script prints.

The convolutional network is not in the tutorial: it is written with SpikingJelly's layers, in its
multi-step mode, and trained by the loop of the other PyTorch sides with its data in memory.
"""

import io
import os
import queue
import re
import runpy
import sys
import tempfile
import threading
from typing import Any

import torch
import torchvision  # noqa: F401  (missing? then the side is left out at once)
from spikingjelly.activation_based import functional, layer, neuron, surrogate
from spikingjelly.activation_based.examples import rsnn_sequential_fmnist as script

from sides.task import CHANNELS, CLASSES, LEARNING_RATE, SIDE, WINDOW
from sides.torch_loop import Loop, load

NETS = {"plain": script.PlainNet, "ss": script.StatefulSynapseNet, "fb": script.FeedBackNet}
WORKERS = os.environ.get("BENCHMARK_LOADER_WORKERS", "2")  # set by train_epoch.py


class Side(Loop):
    """The tutorial itself."""

    packages = ("spikingjelly", "torch", "torchvision")
    differs = f"as published: DataLoader (-j {WORKERS}), images decoded one by one"

    def __init__(self, task: Any) -> None:
        super().__init__(task)
        if task.network == "sew":
            self.differs = ""
        else:
            self.info["dataloader_workers"] = int(WORKERS)
        self.gate: Gate | None = None

    def build(self) -> torch.nn.Module:
        """The script's network with the task's parameters."""
        if self.task.network == "sew":
            net = SEWNet(self.task.start())
            functional.set_step_mode(net, "m")
            return net
        net = NETS[self.task.network]()
        net.first, net.second = net.fc[0], net.fc[-2]
        if self.task.network == "fb":
            net.rc = net.fc[1].rc
        load(net, self.task.start())
        functional.set_step_mode(net, "m")
        return net

    def after_step(self, net: Any) -> None:
        """Puts the state back."""
        functional.reset_net(net)

    def epoch(self) -> float:
        """Lets the script train one epoch (and test it, which is not counted)."""
        if self.task.network == "sew":
            return super().epoch()
        if self.gate is None:
            self.gate = Gate()
            threading.Thread(target=self._script, args=(self.gate,), daemon=True).start()
        self.gate.go.put(None)
        speed = self.gate.speed.get()
        if isinstance(speed, BaseException):
            raise speed
        return self.task.minibatches * self.task.batch_size / speed

    def _script(self, gate: "Gate") -> None:
        sys.argv = [
            *("rsnn_sequential_fmnist", "-model", self.task.network),
            *("-device", "cuda:0" if self.device == "cuda" else "cpu"),
            *("-b", str(self.task.batch_size), "-epochs", "64", "-j", WORKERS),
            *("-opt", "sgd", "-lr", str(LEARNING_RATE)),
            *("-data-dir", str(self.task.folder), "-out-dir", tempfile.mkdtemp()),
        ]
        sys.stdout = gate
        try:
            gate.go.get()
            runpy.run_module(script.__name__, run_name="__main__")
        except (
            BaseException
        ) as error:  # in whichever way it ends, the reader must not wait for ever
            gate.speed.put(error)


class SEWNet(torch.nn.Module):
    """A stem, then twice a block `x + branch(x)` and pooling, then a readout averaged over time."""

    def __init__(self, start: dict[str, Any]) -> None:
        super().__init__()
        kernels = [start[f"conv{k}"] for k in range(5)]
        self.stem = conv_bn_if(kernels[:1])
        self.first, self.second = conv_bn_if(kernels[1:3]), conv_bn_if(kernels[3:])
        self.pool = layer.MaxPool2d(2)
        self.last = layer.Linear((SIDE // 4) ** 2 * CHANNELS, CLASSES)
        # Ours has channels last: the weights of (row, column, channel) are sorted for (C, H, W).
        weight = start["w"].reshape(SIDE // 4, SIDE // 4, CHANNELS, CLASSES).transpose(3, 2, 0, 1)
        with torch.no_grad():
            self.last.weight.copy_(torch.from_numpy(weight.reshape(CLASSES, -1).copy()))
            self.last.bias.copy_(torch.from_numpy(start["b"]))

    def forward(self, xs: torch.Tensor) -> torch.Tensor:
        """`[T, N, 1, 28, 28]` to `[N, 10]`."""
        xs = self.stem(xs)
        for block in (self.first, self.second):
            xs = self.pool(xs + block(xs))
        return self.last(xs.flatten(2)).mean(0)


def conv_bn_if(kernels: list[Any]) -> torch.nn.Sequential:
    """For each kernel a convolution, batch normalisation, and IF neurons."""
    layers: list[torch.nn.Module] = []
    for kernel in kernels:
        conv = layer.Conv2d(*kernel.shape[2:], WINDOW, padding=WINDOW // 2, bias=False)
        with torch.no_grad():
            conv.weight.copy_(torch.from_numpy(kernel.transpose(3, 2, 0, 1).copy()))
        spikes = neuron.IFNode(surrogate_function=surrogate.ATan())
        layers += [conv, layer.BatchNorm2d(CHANNELS), spikes]
    return torch.nn.Sequential(*layers)


class Gate(io.StringIO):
    """Something to print to, which waits after the last line of each epoch."""

    def __init__(self) -> None:
        super().__init__()
        self.go: queue.Queue[None] = queue.Queue()
        self.speed: queue.Queue[Any] = queue.Queue()

    def write(self, text: str) -> int:
        """Reads the speed; at the line that ends an epoch, waits."""
        found = re.search(r"train speed = *([0-9.]+)", text)
        if found:
            self.found = float(found.group(1))
        if text.startswith("escape time"):
            self.speed.put(self.found)
            self.go.get()
        return len(text)
