"""The one exception of the kernels: input that has no answer."""

from __future__ import annotations

__all__ = ["Rejection"]


class Rejection(Exception):  # noqa: N818 - it is an answer about the input, not an error of ours
    """Input that has no answer, with the code of the problem and a remedy.

    Attributes:
        code: one of the service's problem codes.
        detail: what was given and what is allowed.
        hint: a remedy.
        index: of the matrix in its call, where the problem is that of one matrix.
    """

    def __init__(self, code: str, detail: str, hint: str | None = None, index: int | None = None) -> None:
        super().__init__(detail)
        self.code = code
        self.detail = detail
        self.hint = hint
        self.index = index

    def __reduce__(self) -> tuple[object, ...]:
        """Pickles as a constructor call with all arguments: rejections are sent to other processes."""
        return Rejection, (self.code, self.detail, self.hint, self.index)
