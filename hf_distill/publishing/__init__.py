"""From a run to a page: the record a run leaves, and the model card rendered from it."""
