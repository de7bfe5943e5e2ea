"""The file SHA256SUMS that may lie beside IDX files, in the format of the command sha256sum."""

import hashlib
import re
from pathlib import Path

from jaxsnn.data._idx import WAY_OUT

NAME = "SHA256SUMS"
# the digest, a space, a space for text or an asterisk for binary, the name; a backslash in front
# of it all says that characters in the name are escaped, which those of the IDX files never are
_LINE = re.compile(r"\\?([0-9a-fA-F]{64}) [ *](.+)")


def read_sums(folder: Path) -> dict[str, str] | None:
    """Return the digest of each file that a folder's SHA256SUMS names.

    Args:
        folder: where the files lie.

    Returns:
        Digests in hexadecimal, or None where there is no SHA256SUMS.

    Raises:
        ValueError: a line is damaged, or two lines disagree about a file.
        OSError: it cannot be read.
    """
    path = folder / NAME
    try:
        text = path.read_text(encoding="utf-8", errors="surrogateescape")
    except FileNotFoundError:
        return None
    sums: dict[str, str] = {}
    for number, line in enumerate(text.split("\n"), start=1):
        if not line.strip() or line.startswith("#"):
            continue
        match = _LINE.fullmatch(line)
        if match is None:
            raise ValueError(
                f"{path}: expected in line {number} a SHA-256 in hexadecimal and a file's name, "
                f"found {line[:100]!r}; {_again(folder)}"
            )
        digest, name = match[1].lower(), match[2]
        if sums.setdefault(name, digest) != digest:
            raise ValueError(f"{path}: two lines disagree about {name}; {_again(folder)}")
    return sums


def check_sum(path: Path, content: bytes, sums: dict[str, str]) -> None:
    """Refuse a file that has no line in SHA256SUMS, or another digest there.

    Args:
        path: the file.
        content: its bytes as they lie there, compressed or not.
        sums: what `read_sums` returned.

    Raises:
        ValueError: SHA256SUMS does not name the file, or with another digest.
    """
    expected = sums.get(path.name)
    if expected is None:
        raise ValueError(
            f"{path.parent / NAME}: has no line for {path.name}; {_again(path.parent)}"
        )
    found = hashlib.sha256(content).hexdigest()
    if found != expected:
        raise ValueError(
            f"{path}: expected the SHA-256 {expected} that {NAME} has, found {found}; {WAY_OUT}; "
            f"if the file is right, {_again(path.parent)}"
        )


def _again(folder: Path) -> str:
    """Say how SHA256SUMS is made."""
    return f"make it again with `sha256sum * > {NAME}` in {folder}, or delete it"
