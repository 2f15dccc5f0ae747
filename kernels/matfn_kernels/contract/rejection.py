"""The one exception of the kernels: input that has no answer."""

from __future__ import annotations

__all__ = ["Rejection"]


class Rejection(Exception):  # noqa: N818 - it is an answer about the input, not an error of ours
    """Input that has no answer: the code of the problem, what was given, and what to do.

    Attributes:
        code: one of the service's problem codes.
        detail: what was given and what is allowed.
        hint: what to do about it.
        index: which matrix of the batch, where it is one.
    """

    def __init__(self, code: str, detail: str, hint: str | None = None, index: int | None = None) -> None:
        super().__init__(detail)
        self.code = code
        self.detail = detail
        self.hint = hint
        self.index = index

    def __reduce__(self) -> tuple[object, ...]:
        """Pickled as the call that makes it, since it travels with its matrix to other processes."""
        return Rejection, (self.code, self.detail, self.hint, self.index)
