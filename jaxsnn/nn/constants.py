"""Kinds of constants, for the declaration of a neuron of your own.

As the annotation of an attribute, e.g. `tau: TimeConstant = 2.0`, each checks a number or an array,
and has the bounds between which `jaxsnn.nn.learnable` learns it.

| kind | range | default bounds of `learnable` |
|---|---|---|
| `TimeConstant` | greater than 1, in time steps | `(1, inf)` |
| `Threshold` | any number | `(0, inf)` |
| `Positive` | greater than 0 | `(0, inf)` |
| `NonNegative` | at least 0 | `(0, inf)` |
| `Negative` | less than 0 | `(-inf, 0)` |
| `Fraction` | from 0 to 1 | `(0, 1)` |
| `Real` | any number | none |
"""

from jaxsnn.nn._constants import Fraction as Fraction
from jaxsnn.nn._constants import Negative as Negative
from jaxsnn.nn._constants import NonNegative as NonNegative
from jaxsnn.nn._constants import Positive as Positive
from jaxsnn.nn._constants import Real as Real
from jaxsnn.nn._constants import Threshold as Threshold
from jaxsnn.nn._constants import TimeConstant as TimeConstant
