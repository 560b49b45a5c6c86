"""The version, in one place; read by the build and recorded in every ticket and record."""

__version__ = "0.1.0"
