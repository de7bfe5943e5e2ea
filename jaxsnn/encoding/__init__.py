"""Numbers to spikes and sequences, time first: `x` `[N, ...]` becomes `[T, N, ...]`."""

from jaxsnn.encoding._population import PopulationEncoder as PopulationEncoder
from jaxsnn.encoding._rate import poisson as poisson
from jaxsnn.encoding._rate import regular as regular
from jaxsnn.encoding._repetition import periodic as periodic
from jaxsnn.encoding._repetition import repeat as repeat
from jaxsnn.encoding._timing import delta as delta
from jaxsnn.encoding._timing import latency as latency
from jaxsnn.encoding._timing import weighted_phase as weighted_phase
