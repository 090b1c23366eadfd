"""Tell what a run did: the report, the counting of events behind it, and the page for people."""
