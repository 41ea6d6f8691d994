"""An error that the engines share."""

from ..common.cli import InputError


class TooLarge(InputError):
    """A query needs more memory than the engine has; one that reads fewer anchors may do."""
