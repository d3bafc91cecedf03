"""Stages of development of several sections each: one model over depth and age."""
