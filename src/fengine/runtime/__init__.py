"""The edge of the functional API: data, the driver, and the loop as a user runs it."""
