"""Bytes on the wire: frames read and written, and the values they carry."""
