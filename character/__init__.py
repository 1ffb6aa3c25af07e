"""Compile a written character into a language model, and prove what changed."""
