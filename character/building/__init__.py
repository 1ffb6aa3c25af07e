"""The stages of a build, each joined to the store, the models and the recipe."""
