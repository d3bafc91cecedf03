"""The public data sets that `fetch` knows: files, checksums, addresses, and how files become one AnnData."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import anndata as ad
import numpy as np
import pandas as pd


@dataclass(frozen=True)
class PublicFile:
    """A file, its checksum (``"sha256:..."`` or ``"md5:..."``, None if none is known) and its address, if one is."""

    name: str
    checksum: str | None
    url: str | None = None


@dataclass(frozen=True)
class Dataset:
    """What a data set is, what it was made from, its files, and the function that reads them."""

    about: str
    source: str
    files: tuple[PublicFile, ...]
    read: Callable[[Sequence[Path]], ad.AnnData]


def read_tidy(paths: Sequence[Path]) -> ad.AnnData:
    """Read a file that already has sections and 3D coordinates."""
    return ad.read_h5ad(paths[0])


def read_abca(paths: Sequence[Path]) -> ad.AnnData:
    """Join the raw counts of an Allen Brain Cell Atlas MERFISH brain (Zhuang) with its cell and CCF tables.

    Kept are the cells of the sections registered to the Allen CCF, as in the paper: those of the CCF table.
    """
    counts, cell_table, ccf_table = paths
    text = {"cell_label": str}
    columns = ["cell_label", "brain_section_label", "cluster_alias", "x", "y", "z"]
    cells = pd.read_csv(cell_table, usecols=columns, dtype=text).set_index("cell_label")
    registered = pd.read_csv(ccf_table, usecols=["cell_label", "parcellation_index"], dtype=text).set_index(
        "cell_label"
    )
    cells = cells.join(registered, how="inner")
    backed = ad.read_h5ad(counts, backed="r")
    adata = backed[backed.obs_names.isin(cells.index)].to_memory()
    backed.file.close()
    cells = cells.loc[adata.obs_names]
    if "gene_symbol" in adata.var:
        adata.var["gene_identifier"] = adata.var_names.to_numpy()
        adata.var_names = adata.var["gene_symbol"].astype(str).to_numpy()
        adata.var_names_make_unique()
    order = cells.groupby("brain_section_label")["z"].median().sort_values().index
    adata.obs["section"] = pd.Categorical(cells["brain_section_label"], categories=order, ordered=True)
    for column in ("cluster_alias", "parcellation_index"):
        adata.obs[column] = pd.Categorical(cells[column])
    adata.obsm["spatial"] = 1000.0 * cells[["x", "y", "z"]].to_numpy(np.float64)
    adata.uns["X_note"] = "raw counts"
    adata.uns["spatial_unit"] = "um"
    adata.uns["source"] = "Allen Brain Cell Atlas, Zhang et al. 2023 Nature 624:343, CC BY 4.0"
    return adata


def read_mosta(paths: Sequence[Path], *, day: float) -> ad.AnnData:
    """Read one section of the mouse organogenesis atlas; its depth is the day of development."""
    adata = ad.read_h5ad(paths[0])
    adata.var_names_make_unique()
    name = f"E{day:g}"
    adata.obs["section"] = pd.Categorical([name] * adata.n_obs, categories=[name], ordered=True)
    place = np.asarray(adata.obsm["spatial"], dtype=np.float64)[:, :2]
    adata.obsm["spatial"] = np.column_stack([place, np.full(adata.n_obs, day)])
    adata.uns["X_note"] = 'as in the public file, where raw counts are in layers["count"]'
    adata.uns["spatial_unit"] = "a.u."
    adata.uns["z_note"] = "days of development; x, y as in the public file, which does not state their unit"
    adata.uns["source"] = "MOSTA, Chen et al. 2022 Cell 185:1777, CNGB STDS0000058"
    return adata


def _tidy(name: str, sha256: str, about: str, source: str) -> tuple[str, Dataset]:
    return name, Dataset(about, source, (PublicFile(f"{name}.h5ad", f"sha256:{sha256}"),), read_tidy)


_ALLEN = "https://allen-brain-cell-atlas.s3.us-west-2.amazonaws.com"
_MOSTA = "https://ftp.cngb.org/pub/SciRAID/stomics/STDS0000058/stomics"

_TIDY = (
    _tidy(
        "merfish_hypothalamus",
        "60dfa58fc74a245935206d3e8193861b93083c83786c4d2492d0eecb606d1543",
        "mouse hypothalamic preoptic area, MERFISH (Moffitt 2018): 5 sections, 50 µm apart, 28,317 cells, 155 genes",
        "data/merfish/merfish_{4,9,14,19,24}_paste.h5ad of github.com/senlin-lin/SpatialZ",
    ),
    _tidy(
        "heart_asp2019",
        "6bb898a5cc56914e74d9cc51a078267c7356571ff773ef528f2e0199086a36fe",
        "developing human heart, ST (Asp 2019): 9 sections, uneven gaps, 1,467 spots, 19,336 genes",
        "data/ST_heart_spot_data.RData of github.com/MickanAsp/Developmental_heart",
    ),
    _tidy(
        "bdtnp_embryo",
        "98ce95109a6356dc07485d23616750ab2db93dd53ddee538f486da3126be821d",
        "Drosophila blastoderm (BDTNP, Fowlkes 2008): 12 slabs of one 3D embryo, 3,039 nuclei, 84 genes",
        "novosparc/datasets/bdtnp of github.com/rajewsky-lab/novosparc",
    ),
    _tidy(
        "her2st_C",
        "b7fcc2e7320de78c1e4c426881cae8368c1aba61f990900987bb54e9753f1f16",
        "HER2+ breast tumour, patient C, ST (Andersson 2021): 6 sections, not aligned, 1,086 spots, 14,946 genes",
        "data/ of github.com/almaan/her2st",
    ),
    _tidy(
        "paste_breast",
        "7aede4ed978ab8fed4bf35096225cdb0c45512ff4deb2d1fdea413e5404f1f17",
        "breast tumour, ST (Ståhl 2016): 4 sections, not aligned, 1,031 spots, 6,397 genes",
        "sample_data/ of github.com/raphael-group/paste",
    ),
    _tidy(
        "starmap_mpfc",
        "4321fb8de662a0e353527984fe0645182e2ed8595ff20cac62be62aa7d93a0c7",
        "mouse medial prefrontal cortex, STARmap (Wang 2018): 3 animals (no stack), 3,190 cells, 166 genes",
        "data/starmap_mpfc.RData of github.com/zhengli09/BASS-Analysis",
    ),
)

# The md5 sums are those of the atlas's own release manifest, releases/20231215/manifest.json.
_ABCA2 = Dataset(
    "whole mouse brain, MERFISH Zhuang-ABCA-2 (Zhang 2023): sections 0.2 mm apart, 1.06 M cells, 1122 genes; 0.9 GB",
    "the Allen Brain Cell Atlas",
    (
        PublicFile(
            "Zhuang-ABCA-2-raw.h5ad",
            "md5:478cafd72589351da22861862cef2760",
            f"{_ALLEN}/expression_matrices/Zhuang-ABCA-2/20230830/Zhuang-ABCA-2-raw.h5ad",
        ),
        PublicFile(
            "Zhuang-ABCA-2-cell_metadata.csv",
            "md5:400e30b52ebdd4037e2303b248450740",
            f"{_ALLEN}/metadata/Zhuang-ABCA-2/20231215/cell_metadata.csv",
        ),
        PublicFile(
            "Zhuang-ABCA-2-ccf_coordinates.csv",
            "md5:43ac7bdd125c068d63f44444b2713b9a",
            f"{_ALLEN}/metadata/Zhuang-ABCA-2-CCF/20230830/ccf_coordinates.csv",
        ),
    ),
    read_abca,
)


def _mosta(day: float, n_spots: int) -> tuple[str, Dataset]:
    file = f"E{day:g}_E1S1.MOSTA.h5ad"
    about = (
        f"mouse embryo at day {day:g}, Stereo-seq (MOSTA, Chen 2022): one section, {n_spots:,} spots; time as depth; "
        "no checksum is published"
    )
    read = partial(read_mosta, day=day)
    return f"mosta_e{day:g}", Dataset(about, "MOSTA", (PublicFile(file, None, f"{_MOSTA}/{file}"),), read)


_STAGES = ((9.5, 5913), (10.5, 18408), (11.5, 30124), (12.5, 51365), (13.5, 77369), (14.5, 102519), (15.5, 113350))


def _by_hand(name: str, about: str, source: str) -> tuple[str, Dataset]:
    return name, Dataset(f"{about}; to be downloaded by hand", source, (PublicFile(f"{name}.h5ad", None),), read_tidy)


# No address of a file, and no checksum, could be confirmed for these; what is known is where their authors point to.
_BY_HAND = (
    _by_hand(
        "mouse_kidney_arrayseq",
        "mouse kidney, Array-seq (Cipurko 2024): 8 sections 0.1 mm apart, 92,769 spots",
        "the data of Cipurko et al. 2024, https://doi.org/10.1038/s41592-024-02501-5",
    ),
    _by_hand(
        "human_embryo_cs7",
        "human embryo at Carnegie stage 7, Stereo-seq (2025): 82 sections 0.01 mm apart, 28,804 spots",
        "the data of https://doi.org/10.1038/s41556-024-01597-3",
    ),
    _by_hand(
        "spinal_cord_visium",
        "injured mouse spinal cord, Visium (2024): 16 sections at each of four times, 37,558 spots",
        "GEO series GSE256397, https://www.ncbi.nlm.nih.gov/geo/query/acc.cgi?acc=GSE256397",
    ),
)

PUBLIC: dict[str, Dataset] = {
    **dict(_TIDY),
    "zhuang_abca2": _ABCA2,
    **dict(_mosta(day, n_spots) for day, n_spots in (*_STAGES, (16.5, 121767))),
    **dict(_BY_HAND),
}
