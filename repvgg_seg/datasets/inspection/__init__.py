"""Inspect a folder of images and labels."""
