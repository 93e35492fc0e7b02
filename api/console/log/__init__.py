"""What the pages of the log and the search are made of: events, states and correlated commands, as they are shown."""
