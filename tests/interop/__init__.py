"""Our mail authentication beside that of others, run by hand: `make interop`."""
