"""snnTorch: `Leaky` neurons that do not leak, in the loop over time that its users write.

Reset to zero in the same step (`reset_delay=False`) sends the gradient through the reset, as the
tutorial's neurons do; at the start of the next step it is detached, as in fb's hidden neurons. The
potentials are the same. snnTorch has no synapse filter of this kind; it is written out.
"""

import snntorch
import torch
from snntorch import surrogate

from sides.torch_loop import Loop, Network


class Side(Loop):
    """The network of the tutorial with snnTorch's neurons."""

    packages = ("snntorch", "torch")

    @property
    def differs(self) -> str:
        """How it differs."""
        return "filter written in PyTorch" if self.task.network == "ss" else ""

    def build(self) -> torch.nn.Module:
        """The network with the task's parameters."""
        return Network(self.task, neuron(detach=self.task.network == "fb"), neuron(detach=False))


def neuron(detach: bool) -> snntorch.Leaky:
    """An integrate-and-fire neuron with hard reset."""
    return Started(
        beta=1.0,
        spike_grad=surrogate.atan(alpha=2.0),
        reset_mechanism="zero",
        reset_delay=detach,
    )


class Started(snntorch.Leaky):
    """Takes None for the first state; snnTorch would go on with the last one."""

    def forward(self, x: torch.Tensor, mem: torch.Tensor | None = None) -> tuple:
        """One step."""
        return super().forward(x, torch.zeros_like(x) if mem is None else mem)
