"""Units of positions, as people write them."""

from __future__ import annotations

from anndata import AnnData

from isost._logging import logger

# Lengths of a millimetre; a stack without a word about its unit is taken to be in µm.
MILLIMETRE = {"nm": 1e6, "um": 1e3, "mm": 1.0, "cm": 0.1}
ARBITRARY = "a.u."  # x, y and depth of different kinds, or a unit that nobody knows
_SPELLINGS = {
    "um": ("um", "µm", "μm", "micron", "micrometer", "micrometre"),
    "mm": ("mm", "millimeter", "millimetre"),
    "nm": ("nm", "nanometer", "nanometre"),
    "cm": ("cm", "centimeter", "centimetre"),
    "pixel": ("px", "pixel"),
    ARBITRARY: (ARBITRARY,),
}
_UNIT_OF = {spelling: unit for unit, spellings in _SPELLINGS.items() for spelling in spellings}


def read_unit(adata: AnnData) -> str:
    """Take the unit that the first word of `uns["spatial_unit"]` names, µm where there is none."""
    said = str(adata.uns.get("spatial_unit", "")).split()
    if not said:
        return "um"
    unit = _UNIT_OF.get(said[0].lower().removesuffix("s"))
    if unit is None:
        logger.warning(
            "uns['spatial_unit']: expected one of %s, found %r; lengths are labelled %s",
            ", ".join(_SPELLINGS), said[0], ARBITRARY,
        )  # fmt: skip
    return unit or ARBITRARY
