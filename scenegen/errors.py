"""The error types, each with the exit code of the command line.

A message says what is wrong, what was found, and what to do, in that order.
"""

EXIT_DONE = 0
EXIT_PARTIAL = 6
EXIT_INTERRUPTED = 130


def one_line(text: str, most: int = 500) -> str:
    """`text` on one line of at most `most` characters, all of them printable.

    Examples:
        >>> one_line("two   words")
        'two words'
    """
    shown = "".join(char if char.isprintable() else "?" for char in " ".join(text.split()))
    return shown if len(shown) <= most else f"{shown[: most - 3]}..."


class ScenegenError(Exception):
    """Any failure scenegen reports in its own words."""

    exit_code = 1


class UsageError(ScenegenError):
    """The command or the configuration cannot be run."""

    exit_code = 2


class OutdatedError(UsageError):
    """A change of something that has changed in the meantime."""


class InputError(ScenegenError):
    """A photo, mask, depth map or mesh that cannot be used."""

    exit_code = 3


class WeightsError(ScenegenError):
    """Weights or an optional package are missing, damaged, or out of reach."""

    exit_code = 4


class ResourceError(ScenegenError):
    """A device, memory or disk that is absent, full or unwritable."""

    exit_code = 5


class LimitError(ResourceError):
    """A job that needs more memory or time than it may have; a smaller one can succeed."""


class TransientError(ResourceError):
    """A network or a device that did not answer and may be back soon: the same job can succeed later."""


class CrashError(TransientError):
    """The process of a job died, because of the job itself or of a device that may be back soon."""


class ExportError(ScenegenError):
    """An exported file failed its own validation and was not published."""

    exit_code = 7


class ObjectError(ScenegenError):
    """One object that a stage of the whole scene cannot handle; `__cause__` says why. Without it the stage can succeed."""

    def __init__(self, object_id: int) -> None:
        super().__init__(f"object {object_id} cannot be part of the scene")
        self.object_id = object_id
