"""The console: pages for people. They read what routes read, and what they change they change by what routes call."""
