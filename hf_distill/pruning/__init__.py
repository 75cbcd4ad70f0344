"""Narrower models: the units of an encoder, what each is worth, and the encoder without some of them."""
