"""Surrogate gradients: a Heaviside step forward, a smooth derivative backward.

A spike is `H(u)` with `u = v - v_threshold` and `H(0) = 1`. Its derivative is zero almost
everywhere, so training replaces it by the derivative of a smooth function, the *primal*
(Neftci, Mostafa & Zenke 2019, "Surrogate gradient learning in spiking neural networks").
"""

from jaxsnn.surrogate._smooth_steps import ATan as ATan
from jaxsnn.surrogate._smooth_steps import Sigmoid as Sigmoid
from jaxsnn.surrogate._surrogate import Surrogate as Surrogate
