"""Norse: its integrate-and-fire cell, in a loop over time.

Norse has other surrogates (here its SuperSpike, at its default) and no detached reset, so the first
loss is the same and later ones are not. It has no synapse filter of this kind; it is written out.
"""

import torch
from norse.torch.functional.iaf import IAFFeedForwardState
from norse.torch.module.iaf import IAFCell

from sides.torch_loop import Loop, Network


class Side(Loop):
    """The network of the tutorial with Norse's neurons."""

    packages = ("norse", "torch")

    @property
    def differs(self) -> str:
        """How it differs."""
        return "surrogate SuperSpike" + {
            "plain": "",
            "ss": ", filter written in PyTorch",
            "fb": ", reset not detached",
        }.get(self.task.network, "")

    def build(self) -> torch.nn.Module:
        """The network with the task's parameters."""
        return Network(self.task, Started(), Started())


class Started(IAFCell):
    """Starts from zeros; Norse's own first state is shared by all cells."""

    def forward(self, x: torch.Tensor, state: IAFFeedForwardState | None) -> tuple:
        """One step."""
        return super().forward(
            x, IAFFeedForwardState(torch.zeros_like(x)) if state is None else state
        )
