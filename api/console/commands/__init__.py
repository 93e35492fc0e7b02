"""What the console tells of commands: it finds them, tells the story of each, and has failed ones handled again."""
