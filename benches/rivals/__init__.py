"""Other packages with the face of a context, so that benches can run on them."""
