"""The report of a comparison: statistics, tables and plots, made from its folder."""

from recbole_diffusion.experiment.report.files import ReportOptions, summary, write

__all__ = ["ReportOptions", "summary", "write"]
