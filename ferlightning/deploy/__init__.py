"""Faces in pictures and streams, found, classified, followed and made anonymous. Nothing here imports torch."""
