"""How sure a model is of the findings that it names, and whether it is right to be."""
