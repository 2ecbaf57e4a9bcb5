"""What a terminal shows: progress, tables, the summary."""
