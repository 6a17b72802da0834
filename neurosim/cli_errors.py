"""One sentence for everything that a user can get wrong."""

from __future__ import annotations

import difflib
import errno
from collections.abc import Iterable, Sequence

from hydra.errors import HydraException
from omegaconf.errors import OmegaConfBaseException
from torch import OutOfMemoryError

from neurosim.types import ConfigurationError

# Errors of the system that a user can cause and mend; any other OSError is a bug of ours and keeps its traceback.
USERS = {
    errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOENT, errno.ENOTDIR,
    errno.EISDIR, errno.EEXIST, errno.ENAMETOOLONG, errno.EIO, errno.ELOOP, errno.ENXIO, errno.ENODEV, errno.EINVAL,
}  # fmt: skip
LONGEST = 250  # characters of a list inside a sentence
ALLOCATION = ("can't allocate memory", "out of memory", "not enough memory")


def nearest(word: str, allowed: Iterable[str]) -> str:
    """ "; did you mean 'x'?" for the allowed word most like `word`, or nothing."""
    close = difflib.get_close_matches(word, list(allowed), n=1, cutoff=0.6)
    return f"; did you mean {close[0]!r}?" if close else ""


def unknown(what: str, word: str, allowed: Sequence[str]) -> str:
    """The sentence for a word that is none of the allowed ones."""
    return f"there is no {what} {word!r}; {listed(what, allowed)}{nearest(word, allowed)}"


def listed(what: str, allowed: Sequence[str]) -> str:
    """The allowed words, or where they stand if they are too many for a sentence."""
    words = ", ".join(allowed)
    if len(words) > LONGEST:
        return f"`python -m neurosim list {what}s` shows all {len(allowed)}"
    return f"allowed: {words}"


def one_line(text: object) -> str:
    return " ".join(str(text).split())


def innermost(error: BaseException) -> BaseException:
    """The first cause of an error; a ConfigurationError on the way there is one."""
    while not isinstance(error, ConfigurationError) and (error.__cause__ or error.__context__) is not None:
        error = error.__cause__ or error.__context__  # type: ignore[assignment]
    return error


def sentence(error: BaseException) -> str | None:
    """What to tell the user, or None if the error is a bug of ours."""
    if isinstance(error, ConfigurationError):
        return one_line(error)
    if isinstance(error, HydraException | OmegaConfBaseException):
        cause = innermost(error)
        first = str(cause).strip().splitlines()[0] if str(cause).strip() else type(cause).__name__
        return f"the configuration cannot be composed: {one_line(first)}"
    if isinstance(error, OSError) and error.errno in USERS:
        where = f" {error.filename}" if error.filename else ""
        return one_line(f"cannot read or write{where}: {error.strerror}")
    if _out_of_memory(error):
        return "there is not enough memory; lower replicas, batch, settings.evaluate_batch or the sizes of the network"
    return None


def _out_of_memory(error: BaseException) -> bool:
    if isinstance(error, MemoryError | OutOfMemoryError):
        return True
    return isinstance(error, RuntimeError) and any(words in str(error) for words in ALLOCATION)
