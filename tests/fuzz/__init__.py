"""Files of strangers: mutants of every kind of input, each read or refused in one line."""
