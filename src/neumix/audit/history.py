"""What files were when a record was written, as far as git knows."""

import hashlib
import subprocess
from pathlib import Path

__all__ = ["History"]


class History:
    """Earlier contents of files; git is asked once for each.

    Arguments:
        root: folder of the repository.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        self._known: dict[tuple[str, str, str], bytes | None] = {}

    def content(self, path: str, digest: str, commit: str | None) -> bytes | None:
        """Return a file's content at a commit; none if git does not know it, or if it is not the recorded one.

        Arguments:
            path: from the folder of the repository.
            digest: SHA-256 that the content must have.
            commit: as a record names it.
        """
        if not commit or not commit.isalnum():
            return None
        key = (path, digest, commit)
        if key not in self._known:
            command = ["git", "-C", str(self.root), "show", f"{commit}:./{path}"]
            shown = subprocess.run(command, capture_output=True, check=False)
            right = shown.returncode == 0 and hashlib.sha256(shown.stdout).hexdigest() == digest
            self._known[key] = shown.stdout if right else None
        return self._known[key]
