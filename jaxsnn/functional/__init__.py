"""Pure state transitions, one time step each: `(state, x) -> (state, output)`. No Flax here."""

from jaxsnn.functional._integrate_and_fire import if_step as if_step
from jaxsnn.functional._integrate_and_fire import lif_step as lif_step
from jaxsnn.functional._kept import KEPT as KEPT
from jaxsnn.functional._synapse_filter import synapse_filter_step as synapse_filter_step
