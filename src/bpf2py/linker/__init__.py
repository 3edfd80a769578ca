"""From an `ObjectSpec` to loadable instructions: subprograms, CO-RE, externs. Pure: the kernel's facts are passed in."""
