"""Losses and scores: one number per example, so that a mean over any batch is exact.

`firing_rate_mse`, `firing_rate_cross_entropy` and `correct` take one number per class, `[N,
classes]`, as a readout gives it; the others take all time steps, `[T, N, ...]`.
"""

from jaxsnn.losses._cross_entropy import firing_rate_cross_entropy as firing_rate_cross_entropy
from jaxsnn.losses._cross_entropy import max_membrane_cross_entropy as max_membrane_cross_entropy
from jaxsnn.losses._cross_entropy import spike_count_cross_entropy as spike_count_cross_entropy
from jaxsnn.losses._cross_entropy import (
    temporal_efficient_training_cross_entropy as temporal_efficient_training_cross_entropy,
)
from jaxsnn.losses._labels import redundant_one_hot as redundant_one_hot
from jaxsnn.losses._rates import correct as correct
from jaxsnn.losses._rates import firing_rate_mse as firing_rate_mse
from jaxsnn.losses._similarity import kernel_dot_product as kernel_dot_product
from jaxsnn.losses._similarity import spike_similar_loss as spike_similar_loss
