"""What operators do: the keys they make, and the record of their deeds in the log."""
