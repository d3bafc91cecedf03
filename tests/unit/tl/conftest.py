from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager

import numpy as np
import pandas as pd
import pytest
from anndata import AnnData
from spatialdata import SpatialData, deepcopy
from spatialdata.models import Image3DModel, Labels3DModel, TableModel
from spatialdata.testing import assert_spatial_data_objects_are_identical
from spatialdata.transformations import Scale, Translation
from spatialdata.transformations import Sequence as Steps

AXES = ("z", "y", "x")


@pytest.fixture(scope="session")
def gene_volume() -> Callable[..., SpatialData]:
    """Make a volume whose channels are genes, of values (G, z, y, x) and a mask, as isost.tl.reconstruct writes it."""

    def make(
        values: np.ndarray,
        mask: np.ndarray,
        genes: Sequence[str],
        *,
        size: Sequence[float] = (10.0, 10.0, 10.0),
        origin: Sequence[float] = (0.0, 0.0, 0.0),
        density: np.ndarray | None = None,
    ) -> SpatialData:
        to_global = Steps([Scale(list(size[::-1]), axes=AXES), Translation(list(origin[::-1]), axes=AXES)])
        placed = {"global": to_global}
        values = np.where(mask, values, np.nan).astype(np.float32)
        filled = mask.astype(float) if density is None else density
        index = np.argwhere(mask)
        table = AnnData(
            X=values[:, mask].T,
            obs=pd.DataFrame(index, columns=list(AXES), index=pd.RangeIndex(len(index)).astype(str)),
            var=pd.DataFrame(index=list(genes)),
            obsm={"spatial": (index[:, ::-1] + 0.5) * np.array(size) + np.array(origin)},
        )
        return SpatialData(
            images={
                "isost_volume": Image3DModel.parse(
                    values, dims=("c", *AXES), c_coords=list(genes), transformations=placed
                ),
                "isost_density": Image3DModel.parse(
                    filled[None], dims=("c", *AXES), c_coords=["density"], transformations=dict(placed)
                ),
            },
            labels={"isost_mask": Labels3DModel.parse(mask.astype(np.uint8), dims=AXES, transformations=dict(placed))},
            tables={"isost_voxels": TableModel.parse(table)},
            attrs={"isost": {"unit": "um", "channels": "genes", "sections": {"depth": []}}},
        )

    return make


@pytest.fixture(scope="session")
def unchanged() -> Callable[[SpatialData], AbstractContextManager[None]]:
    """Make a context after which a SpatialData is what it was before, in every element, table and attribute."""

    @contextmanager
    def check(sdata: SpatialData) -> Iterator[None]:
        before = deepcopy(sdata)
        yield
        assert_spatial_data_objects_are_identical(sdata, before)

    return check
