"""Arrays and tensors: everything between the AnnData that comes in and the SpatialData that goes out."""
