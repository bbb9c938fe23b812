"""Readers and writers, one module a family of formats."""
