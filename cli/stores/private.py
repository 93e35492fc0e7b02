"""Private files: folders of mode 700 and files of 600, whatever the umask."""

import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import typer

from cli.output import line
from shared.database import engines, sqlite
from shared.schemas import check
from shared.settings import Settings

OTHERS = 0o077
"""The rights of everybody but the owner."""


@contextmanager
def private() -> Iterator[None]:
    """Keep files made in the block private, also those that child processes make."""
    before = os.umask(OTHERS)
    try:
        yield
    finally:
        os.umask(before)


def tighten(settings: Settings) -> None:
    """Make the data dir and the stores' files private, which older versions didn't, and say so if any were open.

    What belongs to another user stays as it is: a volume's root, say.
    """
    closed = [path for path in _kept(settings) if _close(path)]
    if closed:
        what = "files that others might read are private now"
        typer.echo(line(settings, what, data_dir=str(settings.data_dir), count=str(len(closed))), err=True)


def is_ours(path: Path) -> bool:
    """Whether this user owns a file or folder. A link doesn't count, nor a folder meant for all, such as /tmp."""
    found = path.lstat()
    kind = stat.S_ISREG(found.st_mode) or (stat.S_ISDIR(found.st_mode) and not found.st_mode & stat.S_ISVTX)
    return kind and found.st_uid == os.geteuid()


def _close(path: Path) -> bool:
    """Take others' rights away; returns whether they had any and it could be done."""
    with suppress(OSError):  # a store that is in use makes files and removes them
        if is_ours(path) and (mode := path.lstat().st_mode) & OTHERS:
            path.chmod(mode & ~OTHERS)
            return True
    return False


def _kept(settings: Settings) -> Iterator[Path]:
    """The data dir and the files in it that have our names; it may hold others, if it was chosen without thought."""
    files = [sqlite.path_of(url) for _, url in check.stores(settings) if engines.is_local(url)]
    for folder in filter(Path.is_dir, {settings.data_dir, *(file.parent for file in files)}):
        names = ("up.lock", *(file.name for file in files if file.parent == folder))
        yield from (path for path in folder.iterdir() if path.name.startswith(names))
    if (valkey := settings.data_dir / "valkey").is_dir():
        yield from (valkey, *valkey.rglob("*"))
    if settings.data_dir != settings.data_dir.parent:
        yield settings.data_dir
