"""The HTML report: one folder, no network, every number with the record behind it."""

from neumix.report.build import build
from neumix.report.inputs import DeviationInput, ItemInput, PaperInput, ReportInputs, RunInput

__all__ = ["DeviationInput", "ItemInput", "PaperInput", "ReportInputs", "RunInput", "build"]
