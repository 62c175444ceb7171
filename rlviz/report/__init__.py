"""A comparison as one HTML file: every figure interactive, nothing fetched, nothing sent."""

from __future__ import annotations

from rlviz.report.html import report_html

__all__ = ["report_html"]
