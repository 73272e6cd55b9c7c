"""Pure parsers of /proc: bytes in, frozen values out; one module for each file of /proc.

Only `reader` opens anything, only `tree` walks; the rest works on any machine and on recorded
bytes. Import the module that is meant: nothing is gathered here, so that start-up pays for what it
uses.

Text of the kernel is trusted for its meaning, never for its form: whatever does not fit raises
`parse.ProcfsError` with the line. Fields that older kernels lack are None.
"""
