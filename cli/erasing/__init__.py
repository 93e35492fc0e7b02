"""The proof of an erasure: the person's values are looked for wherever the installation keeps anything."""
