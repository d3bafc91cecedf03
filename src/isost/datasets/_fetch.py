from __future__ import annotations

import difflib
import os
from pathlib import Path

import anndata as ad
import pooch

from isost._logging import logger
from isost.datasets._public import PUBLIC, Dataset, PublicFile

_VARIABLE = "ISOST_DATA_DIR"


def available() -> dict[str, str]:
    """List the data sets that `fetch` knows, as name -> description.

    Returns
    -------
    dict
        Names and one-line descriptions.

    Examples
    --------
    >>> import isost
    >>> "merfish_hypothalamus" in isost.datasets.available()
    True
    """
    return {name: dataset.about for name, dataset in PUBLIC.items()}


def fetch(name: str, *, path: str | os.PathLike[str] | None = None) -> ad.AnnData:
    """Read a public data set, downloading what is not there yet.

    Each file is looked for in the folder that the environment variable ``ISOST_DATA_DIR`` names, then in `path`, then
    at its public address. Files are checked against their known checksum; a file whose checksum nobody has published
    is taken as it comes, and the log says so. Files without a known public address are only read from a folder; where
    one is missing, the error names the accession or the article that it comes from.

    Parameters
    ----------
    name
        One of the names that `available` lists.
    path
        Folder to keep downloads in; the user's cache by default.

    Returns
    -------
    anndata.AnnData
        ``obs["section"]`` (ordered categorical), ``obsm["spatial"]`` (n_cells, 3) float64, and in ``uns`` what the
        numbers are (``X_note``, ``spatial_unit``) and where they come from (``source``).

    Raises
    ------
    KeyError
        If there is no data set of this name.
    FileNotFoundError
        If a file has no public address and is in neither folder.
    ConnectionError
        If a download fails, for instance without a network.
    ValueError
        If a file is not the one that is expected by its checksum.

    Examples
    --------
    >>> import isost
    >>> adata = isost.datasets.fetch("merfish_hypothalamus")  # doctest: +SKIP
    """
    if not isinstance(name, str) or name not in PUBLIC:
        near = difflib.get_close_matches(str(name), PUBLIC, n=1, cutoff=0.75)
        hint = f"try {near[0]!r}" if near else "see isost.datasets.available()"
        raise KeyError(f"name: expected one of {', '.join(PUBLIC)}, found {name!r}. Next: {hint}.")
    dataset = PUBLIC[name]
    cache = Path(path) if path is not None else Path(pooch.os_cache("isost"))
    files = [_find(file, dataset, cache) for file in dataset.files]
    adata = dataset.read(files)
    logger.info("fetch: %s, %d cells, %d genes", name, adata.n_obs, adata.n_vars)
    return adata


def _find(file: PublicFile, dataset: Dataset, cache: Path) -> Path:
    folder = os.environ.get(_VARIABLE)
    if folder and (Path(folder) / file.name).is_file():
        return _checked(Path(folder) / file.name, file)
    if (cache / file.name).is_file():
        return _checked(cache / file.name, file)
    if file.url is None:
        made = (
            f"download {dataset.source} by hand and save it there as one AnnData with obs['section'] and, in µm, "
            "obsm['spatial'] (n_cells, 3)"
            if file.checksum is None
            else f"put it there; the tidy file has no public address, it was made from {dataset.source}"
        )
        raise FileNotFoundError(
            f"{file.name}: expected in the folder of {_VARIABLE} ({folder or 'not set'}) or in {cache}, "
            f"found in neither. Next: {made}."
        )
    return _download(file, cache)


def _download(file: PublicFile, cache: Path) -> Path:
    if file.checksum is None:
        logger.warning("fetch: %s has no published checksum; the download is not verified", file.name)
    try:
        return Path(
            pooch.retrieve(
                file.url, file.checksum, fname=file.name, path=cache, downloader=pooch.HTTPDownloader(progressbar=True)
            )
        )
    except OSError as error:
        raise ConnectionError(
            f"{file.name}: expected to download it from {file.url}, found {type(error).__name__}: {error}. "
            f"Next: check the network, or download the file by hand into a folder and set {_VARIABLE} to that folder."
        ) from error
    except ValueError as error:
        raise ValueError(
            f"{file.name}: expected checksum {file.checksum}, found another one at {file.url} ({error}). "
            "Next: try again; if it stays, the public file has changed and must not be trusted unseen."
        ) from error


def _checked(found: Path, file: PublicFile) -> Path:
    if file.checksum is None:
        logger.warning("fetch: %s has no published checksum; %s is not verified", file.name, found)
        return found
    kind, expected = file.checksum.split(":")
    actual = pooch.file_hash(str(found), alg=kind)
    if actual != expected:
        raise ValueError(
            f"{found}: expected {kind} {expected}, found {actual}. "
            "Next: the file is damaged or of another version; delete it and get it again."
        )
    return found
