"""What a step asks to be kept for its backward pass; the rest is cheap to compute anew."""

import jax
from jax.ad_checkpoint import checkpoint_name

KEPT = "jaxsnn: kept for the backward pass"
"""The name that `keep` gives: `jax.checkpoint` with the policy
`jax.checkpoint_policies.save_only_these_names(KEPT)` keeps nothing else."""


def keep(array: jax.Array) -> jax.Array:
    """`array`, marked with the name `KEPT`; where the backward pass has no use for it, no cost."""
    return checkpoint_name(array, KEPT)
