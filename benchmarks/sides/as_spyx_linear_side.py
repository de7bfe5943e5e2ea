"""spyx's recurrent network with jaxsnn's `LinearRecurrentContainer`, which does more work.

`W [x; y] + b` has a product for the input and a bias that spyx's RIF has not. They start as the
identity and 0, so the first loss is spyx's; training moves them, so later losses are not.
"""

import jax.numpy as jnp
import numpy as np
from flax import nnx

from jaxsnn import nn
from sides import as_spyx_side, jaxsnn_side
from sides.task import HIDDEN


class Side(as_spyx_side.Side):
    """The equations of spyx and one more matrix product."""

    differs = "as spyx, LinearRecurrentContainer: one more product and bias; shuffled"

    def hidden(self) -> nn.Cell:
        """The hidden neurons."""
        neuron = nn.IFNode(**as_spyx_side.SOFT)
        cell = nn.LinearRecurrentContainer(neuron, HIDDEN, HIDDEN, rngs=nnx.Rngs(0))
        feedback = self.task.start()["wr"][HIDDEN:]
        kernel = np.concatenate([np.eye(HIDDEN, dtype=np.float32), feedback])
        jaxsnn_side.set_linear(cell.rc, kernel, jnp.zeros(HIDDEN))
        return cell
