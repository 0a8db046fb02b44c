"""The metadata of a crate: entities that refer to each other by their identifiers."""

import hashlib
from collections.abc import Mapping
from pathlib import Path
from urllib.parse import quote

from rocrate.model import ContextEntity, File
from rocrate.model.computerlanguage import get_lang
from rocrate.rocrate import ROCrate

__all__ = ["Graph", "Reference", "fragment", "label"]

Reference = dict[str, str]
"""To an entity, as JSON-LD writes it."""

_CRATE = "https://w3id.org/ro/crate/1.1"
_WORKFLOW_CRATE = "https://w3id.org/workflowhub/workflow-ro-crate/1.0"
_PROFILES = {
    "https://w3id.org/ro/wfrun/process/0.5": "Process Run Crate",
    "https://w3id.org/ro/wfrun/workflow/0.5": "Workflow Run Crate",
    "https://w3id.org/ro/wfrun/provenance/0.5": "Provenance Run Crate",
    _WORKFLOW_CRATE: "Workflow RO-Crate",
}
_WORKFLOW_RUN = "https://w3id.org/ro/terms/workflow-run#"
_TERMS = ("ParameterConnection", "connection", "resourceUsage", "sha256", "sourceParameter", "targetParameter")
_BUILD_INSTRUCTIONS = "https://codemeta.github.io/terms/buildInstructions"


class Graph:
    """Entities of a crate that follows the Provenance Run Crate profile.

    Properties that are none or an empty list are left out, and a list of one value is written as that value.

    References:
        RO-Crate Metadata Specification 1.1; Provenance Run Crate 0.5 (https://w3id.org/ro/wfrun/provenance/0.5).
    """

    def __init__(self) -> None:
        self._crate = ROCrate(version="1.1")
        terms = {term: _WORKFLOW_RUN + term for term in _TERMS}
        self._crate.metadata.extra_terms.update(terms, buildInstructions=_BUILD_INSTRUCTIONS)
        self._crate.metadata["conformsTo"] = [{"@id": _CRATE}, {"@id": _WORKFLOW_CRATE}]
        self._ids: set[str] = set()
        self._mentioned: list[Reference] = []

    def add(self, id_: str, type_: str, **properties: object) -> Reference:
        """Add a contextual entity, unless it is there already, and return the reference to it.

        Arguments:
            id_: a URL, or a fragment.
            type_: of schema.org or of a profile.
            properties: of the entity.
        """
        if id_ not in self._ids:
            self._ids.add(id_)
            self._crate.add(ContextEntity(self._crate, id_, {"@type": type_, **_compact(properties)}))
        return {"@id": id_}

    def mention(self, entity: Reference) -> Reference:
        """Let the crate itself refer to an entity."""
        self._mentioned.append(entity)
        return entity

    def add_file(self, place: str, properties: Mapping[str, object]) -> None:
        """Add a file that is part of the crate, by its path there."""
        self._crate.add(File(self._crate, dest_path=place, properties=_compact(properties)))

    def add_snakemake(self, version: str) -> Reference:
        """Add the language of the workflow."""
        language = self._crate.add(get_lang(self._crate, "snakemake", version))
        return {"@id": language.id}

    def finish(self, folder: Path, **properties: object) -> None:
        """Say what the crate as a whole is, and write the metadata into its folder."""
        for profile, name in _PROFILES.items():
            self.add(profile, "CreativeWork", name=name, version=profile.rpartition("/")[2])
        root = self._crate.root_dataset
        described = {
            "conformsTo": [{"@id": profile} for profile in _PROFILES],
            "mentions": self._mentioned,
            **properties,
        }
        for key, value in _compact(described).items():
            root[key] = value
        self._crate.metadata.write(folder)


def fragment(*parts: str) -> str:
    """Return the identifier of an entity that has no address but in the crate."""
    return "#" + quote("/".join(parts))


def label(content: str) -> str:
    """Return a short name for a content, the same for the same content."""
    return hashlib.sha256(content.encode()).hexdigest()[:12]


def _compact(properties: Mapping[str, object]) -> dict[str, object]:
    kept = {key: value for key, value in properties.items() if value is not None and value != []}
    return {key: value[0] if isinstance(value, list) and len(value) == 1 else value for key, value in kept.items()}
