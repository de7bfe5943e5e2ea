"""The floor: the matrix products of an epoch, and nothing else.

Two figures. The floor is the FLOPs of all products divided by the rate of one large product, the
best that this device does: the lower bound that is hardest to come near. Beside it the time of the
very products of the epoch, small ones, one after another.
"""

import time
from typing import Any

import jax
from _common import gemm_rates

from sides.task import Task, flops, products


class Side:
    """Measures products."""

    packages = ("jax", "jaxlib")
    differs = "matrix products only"

    def __init__(self, task: Task) -> None:
        self.task, self.info = task, {}
        self.rates = gemm_rates()
        random = jax.random.split(jax.random.key(0), 2)
        self.products = [
            (count, jax.random.normal(random[0], (m, k)), jax.random.normal(random[1], (k, n)))
            for count, m, k, n in products(task.network, task.batch_size)
        ]
        start = time.perf_counter()
        for product in self.products:
            jax.block_until_ready(self._repeat(*product))
        self.info["compile_s"] = time.perf_counter() - start

    def epoch(self) -> dict[str, float]:
        """Rates of large products; seconds of the epoch at the best, and of its own products."""
        rates = {str(n): rate() for n, rate in self.rates.items()}
        start = time.perf_counter()
        for product in self.products:
            jax.block_until_ready(self._repeat(*product))
        exact = time.perf_counter() - start
        total = flops(self.task.network, self.task.batch_size) * self.task.minibatches
        return {"seconds": total / max(rates.values()), "exact": exact, "rates": rates}

    def _repeat(self, count: int, a: jax.Array, b: jax.Array) -> Any:
        return _repeat(a, b, count * self.task.minibatches)


@jax.jit
def _repeat(a: jax.Array, b: jax.Array, count: int) -> Any:
    """`a b`, `count` times. Each waits for the last one: no product can be left out."""

    def body(_: Any, state: Any) -> Any:
        a, c = state
        a = a.at[0, 0].add(1e-30 * c[0, 0])
        return a, a @ b

    return jax.lax.fori_loop(0, count, body, (a, a @ b))
