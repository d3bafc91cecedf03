"""Mathematics of the tools on a reconstructed volume: arrays in, arrays out."""
