"""Surrogate gradients: a Heaviside step forward, a smooth derivative backward.

A spike is `H(u)` with `u = v - v_threshold` and `H(0) = 1`. Its derivative is zero almost
everywhere, so training replaces it by the derivative of a smooth function, the *primal*
(Neftci, Mostafa & Zenke 2019, "Surrogate gradient learning in spiking neural networks").
"""

from jaxsnn.surrogate._gaussians import DoubleGaussian as DoubleGaussian
from jaxsnn.surrogate._gaussians import Gaussian as Gaussian
from jaxsnn.surrogate._gaussians import MultiGaussian as MultiGaussian
from jaxsnn.surrogate._heavy_tailed import S2NN as S2NN
from jaxsnn.surrogate._heavy_tailed import FakeNumericalGradient as FakeNumericalGradient
from jaxsnn.surrogate._heavy_tailed import FastSigmoid as FastSigmoid
from jaxsnn.surrogate._heavy_tailed import NonzeroSignLogAbs as NonzeroSignLogAbs
from jaxsnn.surrogate._heavy_tailed import SuperSpike as SuperSpike
from jaxsnn.surrogate._rectifiers import DeterministicPass as DeterministicPass
from jaxsnn.surrogate._rectifiers import LeakyKReLU as LeakyKReLU
from jaxsnn.surrogate._rectifiers import LogTailedReLU as LogTailedReLU
from jaxsnn.surrogate._rectifiers import MultiLevelSpikeCount as MultiLevelSpikeCount
from jaxsnn.surrogate._smooth_steps import ATan as ATan
from jaxsnn.surrogate._smooth_steps import Erf as Erf
from jaxsnn.surrogate._smooth_steps import PiecewiseExp as PiecewiseExp
from jaxsnn.surrogate._smooth_steps import QPseudoSpike as QPseudoSpike
from jaxsnn.surrogate._smooth_steps import Sigmoid as Sigmoid
from jaxsnn.surrogate._smooth_steps import SoftSign as SoftSign
from jaxsnn.surrogate._smooth_steps import SquarewaveFourierSeries as SquarewaveFourierSeries
from jaxsnn.surrogate._surrogate import Surrogate as Surrogate
from jaxsnn.surrogate._windows import PiecewiseLeakyReLU as PiecewiseLeakyReLU
from jaxsnn.surrogate._windows import PiecewiseQuadratic as PiecewiseQuadratic
from jaxsnn.surrogate._windows import Rect as Rect
from jaxsnn.surrogate._windows import Triangle as Triangle
