"""What cnnspec raises, each error with the values it speaks of."""


class CnnspecError(Exception):
    """Any error that cnnspec raises on purpose; `values` holds what the message names."""

    def __init__(self, message: str, **values: object) -> None:
        super().__init__(message)
        self.values = values


class ArgumentError(CnnspecError, ValueError):
    """An operator that cannot exist: `torch.nn`'s constructor refuses it too."""


class ShapeError(CnnspecError, ValueError):
    """A call that cannot be made: the operator exists, but not on these shapes."""


class UsageError(CnnspecError):
    """A command or a target that cannot be understood (exit code 2 at the command line)."""


def said(error: BaseException) -> str:
    r"""Return what was raised, in one line.

    >>> said(ValueError("no such axis: 4\nof 3"))
    'raised ValueError: no such axis: 4'
    """
    return f"raised {type(error).__name__}: {(str(error).splitlines() or [''])[0][:300]}"
