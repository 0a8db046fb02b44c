"""GenMM and LatMM: what is measured, drawn and tabulated."""
