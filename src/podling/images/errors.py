"""What can go wrong with an image, in the words a user of Kubernetes and Docker knows.

`ImageError` is for running: its `reason` is the one that the kubelet shows in `state.waiting.reason`.
`BuildError` is for building: it names the file and line to look at and, where there is one, the mend.
Programming errors and broken disks (`OSError` from the store's own directory) are not wrapped.
"""

from __future__ import annotations


class ImageError(Exception):
    """An image that cannot be had.

    `reason` is one of the kubelet's: `ErrImagePull`, `ErrImageNeverPull`, `InvalidImageName`, `ImageInspectError`,
    `RegistryUnavailable` (pkg/kubelet/images/types.go). `message` is the text shown beside it.
    """

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason
        self.message = message


class BuildError(Exception):
    """A build that cannot go on: `file:line: message`, and in `hint` how to mend it."""

    def __init__(self, message: str, *, file: str = "", line: int = 0, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.file = file
        self.line = line
        self.hint = hint

    def __str__(self) -> str:
        place = f"{self.file}:{self.line}: " if self.file and self.line else f"{self.file}: " if self.file else ""
        return place + self.message + (f"\n  {self.hint}" if self.hint else "")
