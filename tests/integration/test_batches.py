from __future__ import annotations

import numpy as np

import isost


def test_the_field_of_a_tissue_stained_unevenly_is_better_once_corrected() -> None:
    adata = isost.datasets.phantom("bending", n_sections=4, n_cells=150, n_genes=20, section_effects=0.5, rng=1)
    truth = isost.datasets.phantom_truth(adata)
    places = truth.sample_section(75.0, n=400, rng=0).obsm["spatial"]
    error = []
    for batch_key in (None, "section"):
        isost.pp.embed(adata, n_comps=8, target_sum=1e4, batch_key=batch_key, rng=0)
        fitted = isost.tl.fit(adata, epochs=1, progress=False, rng=0)
        error.append(float(np.square(fitted.expression(places) - truth.expression(places)).mean()))
    assert error[1] < 0.85 * error[0]
