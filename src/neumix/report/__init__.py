"""The HTML report: one folder, no network, every number with the record behind it."""

from .build import build
from .inputs import DeviationInput, ItemInput, PaperInput, ReportInputs, RunInput

__all__ = ["DeviationInput", "ItemInput", "PaperInput", "ReportInputs", "RunInput", "build"]
