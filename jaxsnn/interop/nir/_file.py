"""Reading a .nir file, which may be damaged or come from anyone; and the package `nir`."""

import os
from typing import Any

UNPACKED = 2000  # times what a file holds: gzip gets to about 1000


def package() -> Any:
    """The module `nir`, imported when it is needed."""
    try:
        import nir  # inside this package too the name is absolute: it is the one from PyPI
    except ImportError as error:
        raise ImportError(
            'jaxsnn.interop.nir needs the package nir: pip install "jaxsnn-nnx[nir]", or from '
            'source pip install -e ".[nir]"'
        ) from error
    return nir


def read(path: str | os.PathLike[str]) -> Any:
    """The graph in a file.

    Raises:
        FileNotFoundError: there is no file.
        ValueError: it is not a NIR file, or holds nodes that NIR does not have; names the path.
    """
    nir = package()
    import h5py

    if not os.path.isfile(path):
        raise FileNotFoundError(f"{path}: there is no such file")
    try:
        with h5py.File(path, "r") as file:
            claimed = sum(_sizes(file, set()))
            if claimed > UNPACKED * os.path.getsize(path):
                raise ValueError(f"it claims to hold {claimed} bytes, more than fit into it")
            found = nir.serialization.hdf2dict(file["node"])
        if found["type"] != "NIRGraph":
            raise ValueError(f"it holds one {found['type']!r} and no graph")
        if unknown := sorted(_unknown(nir, found)):
            raise ValueError(f"it has nodes of types that NIR {nir.version} lacks: {unknown}")
        return nir.NIRGraph.from_dict({**found, "type_check": False})
    except Exception as error:  # whatever is wrong inside it, HDF5 and nir raise all kinds
        reason = f"{type(error).__name__}: {error}"
        raise ValueError(f"{path} is not a NIR file that can be read ({reason})") from error


def _sizes(group: Any, seen: set[Any]) -> list[int]:
    """The bytes of each array. All must be in the file itself, and once: a link could lead into
    another file, or in circles.
    """
    import h5py

    sizes = []
    for name in group:
        where = f"{group.name.rstrip('/')}/{name}"
        if not isinstance(group.get(name, getlink=True), h5py.HardLink):
            raise ValueError(f"{where} is a link to something else")
        entry = group[name]
        place = h5py.h5o.get_info(entry.id).addr
        if place in seen:
            raise ValueError(f"{where} stands in the file twice")
        seen.add(place)
        if isinstance(entry, h5py.Group):
            sizes += _sizes(entry, seen)
        elif isinstance(entry, h5py.Dataset):
            if entry.is_virtual or entry.external:
                raise ValueError(f"{where} lies in another file")
            if entry.dtype.kind not in "biuf" and h5py.check_string_dtype(entry.dtype) is None:
                raise ValueError(f"{where} holds neither numbers nor text but {entry.dtype}")
            sizes.append(entry.nbytes)
    return sizes


def _unknown(nir: Any, graph: Any) -> list[str]:
    """The types in a graph that are not nodes of NIR."""
    types = []
    for name, node in graph["nodes"].items():
        if node["type"] == "NIRGraph":
            types += _unknown(nir, node)
        elif node["type"] not in nir.ir.__all__:
            types.append(f"{node['type']} ({name})")
    return types
