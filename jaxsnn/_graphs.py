"""Graphs of names: in which order their nodes run, and which edges take a time step."""

import graphlib
from collections import defaultdict
from collections.abc import Collection, Iterable, Sequence

Edge = tuple[str, str]
INPUT, OUTPUT = "input", "output"


def check(names: Collection[str], edges: Sequence[Edge]) -> None:
    """Raise unless every node is on a path from INPUT to OUTPUT, and every edge is unique."""
    for edge in edges:
        a, b = edge
        if a not in {INPUT, *names} or b not in {OUTPUT, *names}:
            raise ValueError(f"edge {edge} must lead from input to output among {sorted(names)}")
        if edges.count(edge) > 1:
            raise ValueError(f"edge {edge} is given twice; leave one out, or double its input")
    fed = _reachable(INPUT, edges)
    used = _reachable(OUTPUT, [(b, a) for a, b in edges])
    for name in [*names, OUTPUT]:
        if name not in fed or name not in used:
            missing = "from the input" if name not in fed else "to the output"
            there = "to" if name not in fed else "from"
            raise ValueError(f"no edges lead {missing} {there} the node {name!r}; connect it")


def schedule(names: Collection[str], edges: Sequence[Edge]) -> tuple[list[str], list[Edge]]:
    """The nodes in an order in which each comes after those that feed it in the same step, and
    the edges that feed it the output of the step before.

    In a cycle these are the edges that lead back to the one node where signals enter it.
    """
    late: list[Edge] = []
    parts = [(set(names), list(edges))]
    while parts:
        inside, there = parts.pop()
        for cycle in _cycles(inside, there):
            entries = {b for a, b in there if b in cycle and a not in cycle}
            if len(entries) != 1:
                raise ValueError(
                    f"signals enter the cycle of {sorted(cycle)} at {sorted(entries)}; it must be "
                    "one node, the edges back to which take a time step: put a layer before it"
                )
            (entry,) = entries
            back = [(a, b) for a, b in there if b == entry and a in cycle]
            late += back
            parts.append((cycle, [e for e in there if e[1] in cycle and e not in back]))
    sorter = graphlib.TopologicalSorter[str](dict.fromkeys(names, ()))
    for a, b in edges:
        if (a, b) not in late and a != INPUT and b != OUTPUT:
            sorter.add(b, a)
    return list(sorter.static_order()), [edge for edge in edges if edge in late]


def sources(name: str, edges: Iterable[Edge]) -> list[str]:
    """The nodes that feed `name`."""
    return [a for a, b in edges if b == name]


def targets(name: str, edges: Iterable[Edge]) -> list[str]:
    """The nodes that `name` feeds."""
    return [b for a, b in edges if a == name]


def _reachable(start: str, edges: Iterable[Edge]) -> set[str]:
    after = defaultdict(list)
    for a, b in edges:
        after[a].append(b)
    found, waiting = {start}, [start]
    while waiting:
        new = set(after[waiting.pop()]) - found
        found |= new
        waiting += new
    return found


def _cycles(names: Collection[str], edges: Sequence[Edge]) -> list[set[str]]:
    """The largest sets of nodes each of which leads to each of them (Tarjan 1972, "Depth-first
    search and linear graph algorithms", has a faster way).
    """
    inside = [(a, b) for a, b in edges if a in names and b in names]
    ahead = {name: _reachable(name, inside) for name in {a for a, _ in inside}}
    on_cycle = [n for n in names if any(n in ahead.get(b, {b}) for b in targets(n, inside))]
    cycles: list[set[str]] = []
    for name in on_cycle:
        if not any(name in cycle for cycle in cycles):
            cycles.append({n for n in on_cycle if n in ahead[name] and name in ahead[n]})
    return cycles
