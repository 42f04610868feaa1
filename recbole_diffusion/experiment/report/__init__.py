"""What a comparison found: statistics, tables and plots, made from its folder as often as wanted."""

from recbole_diffusion.experiment.report.files import summary, write

__all__ = ["summary", "write"]
