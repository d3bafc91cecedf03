"""Results as Markdown tables."""

from __future__ import annotations

import pandas as pd


def show(frame: pd.DataFrame) -> None:
    """Print a table, numbers to three digits."""
    print("\n| " + " | ".join(frame) + " |\n|" + "---|" * frame.shape[1])
    for row in frame.itertuples(index=False):
        print("| " + " | ".join(f"{value:.3f}" if isinstance(value, float) else str(value) for value in row) + " |")
