"""Images between the sections: what they show, where they lie, and what of the expression follows them."""
