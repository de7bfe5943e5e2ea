"""SpikingJelly: the script that its tutorial tells one to run, from the installed package.

    python -m spikingjelly.activation_based.examples.rsnn_sequential_fmnist -model ss -b 256 ...

The script runs unchanged, with torchvision's data set and its own DataLoader, in a thread of this
process; the only thing that is ours is what it prints to: after each epoch's last line that waits
for the next command. The time is that of the training half of the epoch, from the speed that the
script prints.
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
from spikingjelly.activation_based import functional
from spikingjelly.activation_based.examples import rsnn_sequential_fmnist as script

from sides.task import LEARNING_RATE
from sides.torch_loop import Loop, load

NETS = {"plain": script.PlainNet, "ss": script.StatefulSynapseNet, "fb": script.FeedBackNet}
WORKERS = os.environ.get("BENCHMARK_LOADER_WORKERS", "2")  # set by train_epoch.py


class Side(Loop):
    """The tutorial itself."""

    packages = ("spikingjelly", "torch", "torchvision")
    differs = f"as published: DataLoader (-j {WORKERS}), images decoded one by one"

    def __init__(self, task: Any) -> None:
        super().__init__(task)
        self.info["dataloader_workers"] = int(WORKERS)
        self.gate: Gate | None = None

    def build(self) -> torch.nn.Module:
        """The script's network with the task's parameters."""
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
