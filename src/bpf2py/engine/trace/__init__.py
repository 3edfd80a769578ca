"""Real events without privileges: a child process that is traced by ptrace, and packets from files."""
