"""What a run found, and the reports made of it: HTML, CSV, JUnit XML and Markdown."""

from cnnspec.report.build import write_reports as write_reports
from cnnspec.report.cells import Cell as Cell
from cnnspec.report.cells import Failure as Failure
from cnnspec.report.results import Results as Results
