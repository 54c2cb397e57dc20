"""Why a model cannot be had: one exception that carries a sentence for people and a reason for programs.

missing      nothing is there that may be read       broken       cut short, or its parts do not fit together
pickle       weights only as pickles                 too_large    more than was allowed
unsafe       own code, files outside the folder      unsupported  another family, or a switch we do not compute
offline      the hub cannot be reached
"""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Literal

Reason = Literal["missing", "pickle", "unsafe", "too_large", "unsupported", "broken", "offline"]


class CheckpointError(ValueError):
    """A model folder that is not loaded. The message is one English sentence; `reason` is one of seven words, from
    which an app picks what to tell a learner in any language.

    >>> error = CheckpointError("config.json asks for 9 parameters; the limit is 8", "too_large")
    >>> str(error), error.reason
    ('config.json asks for 9 parameters; the limit is 8', 'too_large')
    """

    def __init__(self, message: str, reason: Reason) -> None:
        super().__init__(message)
        self.reason: Reason = reason

    def __reduce__(self) -> tuple[type, tuple[str, str]]:
        return type(self), (str(self), self.reason)


class HubUnreachableError(CheckpointError, ConnectionError):
    """The hub is away, and the model has not been downloaded before."""

    def __init__(self, message: str, reason: Reason = "offline") -> None:
        super().__init__(message, reason)


@contextmanager
def with_a_reason() -> Iterator[None]:
    """Turn what the parts below raise while a folder is read into a CheckpointError.

    A ValueError without a reason (a shape that cannot be, a tokenizer that the library refuses) means that files are
    broken; so does a file that cannot be read. Of a path only its last name is told.

    >>> with with_a_reason():
    ...     raise PermissionError(13, "Permission denied", "secret/config.json")
    Traceback (most recent call last):
    lm_core.checkpoint_error.CheckpointError: config.json cannot be read: Permission denied
    """
    try:
        yield
    except CheckpointError:
        raise
    except OSError as error:
        name = Path(str(error.filename)).name if error.filename else "the folder"
        gone = isinstance(error, FileNotFoundError | NotADirectoryError | PermissionError)
        reason: Reason = "missing" if gone else "broken"
        raise CheckpointError(f"{name} cannot be read: {error.strerror or type(error).__name__}", reason) from None
    except ValueError as error:
        raise CheckpointError(str(error), "broken") from None
    except MemoryError:
        raise CheckpointError("this computer has too little memory for the model", "too_large") from None
    except RuntimeError as error:  # torch says so when the CPU's, or a GPU's, memory is full
        if "memory" not in str(error):
            raise
        raise CheckpointError("this computer has too little memory for the model", "too_large") from None
