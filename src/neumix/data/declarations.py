"""What `config/datasets.yaml` says: per dataset its files, where they are published, and their hashes."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated

import pydantic
from pydantic.dataclasses import dataclass

from neumix.settings import STRICT, CatalogueError, parse, read_yaml

__all__ = ["DatasetDeclaration", "FileDeclaration", "check_name", "load_declarations"]

# No separators and no leading dot: a declared name can never point outside the data folder.
FileName = Annotated[str, pydantic.StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")]
Md5 = Annotated[str, pydantic.StringConstraints(pattern=r"^[0-9a-f]{32}$")]
Sha256 = Annotated[str, pydantic.StringConstraints(pattern=r"^[0-9a-f]{64}$")]
Url = Annotated[str, pydantic.StringConstraints(pattern=r"^https?://")]
Text = Annotated[str, pydantic.StringConstraints(min_length=1, strip_whitespace=True)]


@dataclass(frozen=True, kw_only=True, config=STRICT)
class FileDeclaration:
    """One file of a dataset; sizes and hashes are those of the uncompressed content.

    Arguments:
        name: how the file is called on disk, uncompressed.
        size: content in bytes; nothing larger is ever written.
        urls: public addresses of the file or of a gzip of it, tried in this order.
        sha256: of the content.
        md5: of the content, for a file whose sha256 nobody has published.
        wrapper_md5: of the original gzip, for such a file.
    """

    name: FileName
    size: pydantic.PositiveInt
    urls: tuple[Url, ...]
    sha256: Sha256 | None = None
    md5: Md5 | None = None
    wrapper_md5: Md5 | None = None

    def __post_init__(self) -> None:
        if self.sha256 is None and self.md5 is None and self.wrapper_md5 is None:
            raise ValueError(f"{self.name} needs a sha256, or an md5 or wrapper_md5 where no sha256 is known")


@dataclass(frozen=True, kw_only=True, config=STRICT)
class DatasetDeclaration:
    """One dataset that must be fetched.

    Arguments:
        title: what a reader calls it.
        homepage: where it is described.
        licence: under which terms it may be used, as far as they are known.
        citation: what to cite.
        files: its files.
        note: what a user should know before fetching it; shown when fetching fails.
    """

    title: Text
    homepage: Url
    licence: Text
    citation: Text
    files: Annotated[tuple[FileDeclaration, ...], pydantic.Field(min_length=1)]
    note: str = ""

    def __post_init__(self) -> None:
        names = [file.name for file in self.files]
        if len(set(names)) != len(names):
            raise ValueError(f"each file needs its own name, found {', '.join(names)}")


def check_name(name: object) -> None:
    """Refuse a dataset name that is not the plain name of one folder.

    Raises:
        ValueError: it has anything but lower-case letters, digits and hyphens.
    """
    if not isinstance(name, str) or not re.fullmatch(r"[a-z0-9][a-z0-9-]*", name):
        raise ValueError(f"a dataset's name has lower-case letters, digits and hyphens only, found {name!r}")


def load_declarations(path: Path) -> Mapping[str, DatasetDeclaration]:
    """Read the declarations of all datasets, by name.

    Arguments:
        path: the YAML file.

    Raises:
        CatalogueError: the file is missing or malformed; names file, key and the nearest valid key.
    """
    content = read_yaml(path)
    for name in content:
        try:
            check_name(name)
        except ValueError as error:
            raise CatalogueError(f"{path}: {error}") from None
    return {name: parse(DatasetDeclaration, declaration, f"{path}: {name}") for name, declaration in content.items()}
