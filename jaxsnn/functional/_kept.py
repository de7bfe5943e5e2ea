"""The name of what a step asks to be kept for its backward pass; the rest is cheap to compute anew.

A step marks it with `jax.ad_checkpoint.checkpoint_name`; `jax.checkpoint` with the policy
`jax.checkpoint_policies.save_only_these_names(KEPT)` keeps nothing else.
"""

KEPT = "jaxsnn: kept for the backward pass"
