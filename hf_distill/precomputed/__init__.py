"""Teacher outputs stored with the rows of a transfer set: labeled once, verified, read as a teacher."""
