"""Local learning rules: how the spikes before and after a weight change it, without a gradient.

A rule is a frozen dataclass of settings that is called as a pure transition, one time step each:
`(state, weight, pre, post) -> (state, dw)`. `over_time` runs one over a recorded sequence. The
result `dw` is to be added to the weight; where an optimiser expects a gradient it is `-dw`.
"""

from jaxsnn.learning._rule import Traces as Traces
from jaxsnn.learning._rule import over_time as over_time
from jaxsnn.learning._rules import MSTDP as MSTDP
from jaxsnn.learning._rules import MSTDPET as MSTDPET
from jaxsnn.learning._rules import STDP as STDP
from jaxsnn.learning._rules import MSTDPETState as MSTDPETState
from jaxsnn.learning._rules import MSTDPState as MSTDPState
from jaxsnn.learning._synapses import Convolution as Convolution
from jaxsnn.learning._synapses import LowerBound as LowerBound
from jaxsnn.learning._synapses import UpperBound as UpperBound
from jaxsnn.learning._synapses import additive as additive
from jaxsnn.learning._synapses import dense as dense
from jaxsnn.learning._synapses import proportional as proportional
