"""What a run of benchmarks found, as one HTML page."""

from cnnspec.report.performance.page import NAME as NAME
from cnnspec.report.performance.page import performance_html as performance_html
from cnnspec.report.performance.page import save as save
