"""The error types, each with the exit code the command line ends with.

A message names the argument, what was received, what is allowed, and the fix.
"""

EXIT_DONE = 0
EXIT_PARTIAL = 6
EXIT_INTERRUPTED = 130


class ScenegenError(Exception):
    """Any failure scenegen reports in its own words."""

    exit_code = 1


class UsageError(ScenegenError):
    """The command or the configuration is not one that can be run."""

    exit_code = 2


class InputError(ScenegenError):
    """A photo, mask, depth map or mesh that cannot be used."""

    exit_code = 3


class WeightsError(ScenegenError):
    """Weights or an optional package are missing, damaged, or out of reach."""

    exit_code = 4


class ResourceError(ScenegenError):
    """A device, memory or disk that is absent, full or unwritable."""

    exit_code = 5


class TransientError(ResourceError):
    """A network or a device that did not answer and may be back soon: the same again can end well."""


class ExportError(ScenegenError):
    """An exported file failed its own validation and was not published."""

    exit_code = 7
