"""Reading events: ring buffers and perf buffers."""
