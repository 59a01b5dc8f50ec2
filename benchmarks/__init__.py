"""Speed of the engine, against its peers and on accelerators. Not part of the package."""
