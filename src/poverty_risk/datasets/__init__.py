"""Data sets: a synthetic county whose true risk is known, and a real household panel."""
