"""Compression of a teacher: students of many shapes, vocabularies and formats, trained on outputs recorded once."""
