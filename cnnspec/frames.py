"""Tables as pandas data frames."""

from collections.abc import Iterable, Mapping
from typing import Any, TypeAlias

import pandas as pd

Frame: TypeAlias = pd.DataFrame


def frame(rows: Iterable[Mapping[str, Any]]) -> Frame:
    """Return one line per row, the keys of the first as columns.

    >>> frame([{"name": "conv1", "macs": 9}, {"name": "fc", "macs": 2}])["macs"].tolist()
    [9, 2]
    """
    return pd.DataFrame.from_records(list(rows))
