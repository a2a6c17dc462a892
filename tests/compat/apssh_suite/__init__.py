"""The test suite of apssh, over asynciojobs and over our names for it: what passes there passes here."""
