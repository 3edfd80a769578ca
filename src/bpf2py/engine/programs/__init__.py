"""Programs: loading, contexts and packets, hooks, runs."""
