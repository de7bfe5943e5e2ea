"""Local learning rules: how the spikes before and after a weight change it, without a gradient.

A rule is a frozen dataclass of settings that is called as a pure transition, one time step each:
`(state, weight, pre, post) -> (state, dw)`. `over_time` runs one over a recorded sequence. The
result `dw` is to be added to the weight; where an optimiser expects a gradient it is `-dw`.
"""

from jaxsnn.learning._over_time import over_time as over_time
from jaxsnn.learning._reward import MSTDP as MSTDP
from jaxsnn.learning._reward import MSTDPET as MSTDPET
from jaxsnn.learning._reward import MSTDPETState as MSTDPETState
from jaxsnn.learning._reward import MSTDPState as MSTDPState
from jaxsnn.learning._rule import Traces as Traces
from jaxsnn.learning._stdp import STDP as STDP
from jaxsnn.learning._synapses import Convolution as Convolution
from jaxsnn.learning._synapses import dense as dense
from jaxsnn.learning._weight_dependence import LowerBound as LowerBound
from jaxsnn.learning._weight_dependence import UpperBound as UpperBound
from jaxsnn.learning._weight_dependence import additive as additive
from jaxsnn.learning._weight_dependence import proportional as proportional
