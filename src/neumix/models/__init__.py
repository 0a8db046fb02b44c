"""Models, one module or package each; found by the name that the catalogue uses."""
