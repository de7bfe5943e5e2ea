"""Getting Fashion-MNIST from the net into a cache, as a TFDS data set, in one atomic step.

Everything happens in a private folder inside the cache, and only a finished data set is renamed
into place. So an interrupted run leaves nothing that could be taken for the data, and of two
processes that do this at the same time both succeed and the first one's result stays. A killed
process may leave a folder ``.incomplete-...`` in the cache, which nothing reads.
"""

import os
import shutil
import tempfile
from pathlib import Path

from jaxsnn.data._debian import PACKAGE, fetch_debian_package
from jaxsnn.data._download import download_official
from jaxsnn.data._prepared import INFO


def acquire(root: Path) -> tuple[Path, str]:
    """Download Fashion-MNIST, or fetch the distribution's package, and prepare it with TFDS.

    Args:
        root: the cache directory; made when it is not there.

    Returns:
        The prepared folder, and in words where its content came from and what failed before.

    Raises:
        OSError: no way led to the data; one line of the message for each.
    """
    try:
        root.mkdir(parents=True, exist_ok=True)
        staging = Path(tempfile.mkdtemp(prefix=".incomplete-", dir=root))
    except OSError as error:
        raise OSError(
            f"cache {root}: cannot be written ({error}); set JAXSNN_DATA_DIR to another directory"
        ) from error
    routes = (
        ("official download", download_official),
        (f"distribution's package {PACKAGE}", fetch_debian_package),
    )
    failures: list[str] = []
    try:
        for number, (title, fetch) in enumerate(routes):
            files = staging / str(number)
            files.mkdir()
            try:
                fetch(files)
            except (OSError, ValueError) as error:
                failures.append(f"{title}: {error}")
                continue
            origin = title + "".join(f" (before that, {failure})" for failure in failures)
            return _prepare_into(root, files, staging), origin
    finally:
        shutil.rmtree(staging, ignore_errors=True)
    raise OSError("\n".join(failures))


def _prepare_into(root: Path, files: Path, staging: Path) -> Path:
    """Prepare the IDX files in the staging folder, then rename the result into the cache."""
    from jaxsnn.data._builder import prepare

    prepared = prepare(files, staging / "tfds")
    target = root / prepared.relative_to(staging / "tfds")
    target.parent.mkdir(exist_ok=True)
    try:
        os.rename(prepared, target)
    except OSError:
        if not (target / INFO).is_file():  # else another process has been faster
            raise
    return target
